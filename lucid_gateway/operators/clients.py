"""Names clients in words, such as "Firefox on Linux", by what their user agents say."""

import re
from functools import lru_cache

# The first that occurs counts: browsers also name the ones that they descend from.
BROWSERS = (
    ("Edg", "Edge"), ("OPR/", "Opera"), ("SamsungBrowser/", "Samsung Internet"), ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"), ("CriOS/", "Chrome"), ("HeadlessChrome/", "Headless Chrome"), ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)  # fmt: skip
SYSTEMS = (
    ("iPhone", "iPhone"), ("iPad", "iPad"), ("Android", "Android"), ("Windows", "Windows"), ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip
PRODUCT = re.compile(r"[A-Za-z][\w.+-]{0,29}(/v?[0-9][\w.]{0,14})?")


@lru_cache(maxsize=1024)
def client_words(user_agent: str) -> str:
    """Return the client's browser and system, or the first product of its user agent, or an empty text.

    A client can claim to be any other.
    """
    browser, system = first_of(BROWSERS, user_agent), first_of(SYSTEMS, user_agent)
    if user_agent.startswith("Mozilla/") and browser:
        return f"{browser} on {system}" if system else browser
    product = PRODUCT.match(user_agent)
    return product[0].replace("/", " ") if product else user_agent[:30]


def first_of(names: tuple[tuple[str, str], ...], user_agent: str) -> str:
    return next((name for mark, name in names if mark in user_agent), "")
