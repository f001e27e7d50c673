// Redoc shows the logo of its makers from their host. Images come from this one alone: Redoc is told that it failed.
"use strict";

HTMLImageElement.prototype.setAttribute = function (name, value) {
  if (name !== "src" || value.startsWith("data:")) Element.prototype.setAttribute.call(this, name, value);
};
Object.defineProperty(HTMLImageElement.prototype, "src", {
  set(value) {
    this.setAttribute("src", value);
    if (!this.hasAttribute("src")) this.dispatchEvent(new Event("error"));
  },
});
