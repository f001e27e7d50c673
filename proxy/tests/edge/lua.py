"""The Lua of the edge, function by function: an nginx that calls what a test names."""

import contextlib
import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo.edge import nginx_command
from proxy.edge.debian import debian_modules
from testing.edge import SECRET, configure, skip_without_nginx
from testing.servers import child, folder, free_port, wait_for_port

CONFIGURATION = """
%(modules)s
worker_processes 1;
pid lua.pid;
error_log stderr crit;
events {}
http {
    access_log off;
    client_body_buffer_size 1m;
    keepalive_requests 1000000;
    lua_package_path "%(folder)s/lua/?.lua;;";
    lua_shared_dict lucid_callers 1m;
    init_by_lua_block { require("lucid.edge").load("%(folder)s") }
    server {
        listen 127.0.0.1:%(port)s;
        location / {
            content_by_lua_block {
                local cjson = require "cjson"
                ngx.req.read_body()
                local call = cjson.decode(ngx.req.get_body_data())
                for index = 1, call.count do
                    if call.arguments[index] == cjson.null then call.arguments[index] = nil end
                end
                local found = require(call.module)[call.name](unpack(call.arguments, 1, call.count))
                local body = cjson.encode({ found = found == nil and cjson.null or found })
                ngx.header["Content-Length"] = #body
                ngx.print(body)
            }
        }
    }
}
"""


class Lua:
    """Calls functions of the edge's modules."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def call(self, function: str, *arguments: Any) -> Any:
        """Return what `module.function` returns, both in JSON."""
        module, _, name = function.rpartition(".")
        call = {"module": module, "name": name, "arguments": arguments, "count": len(arguments)}
        self.connection.request("POST", "/", json.dumps(call))
        answer = self.connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return json.loads(body)["found"]


@contextlib.contextmanager
def running_lua() -> Iterator[Lua]:
    """Run an nginx with the edge's modules and policy."""
    skip_without_nginx()
    with folder() as path:
        port = free_port()
        configure(path, port, os.environ | {"GATEWAY_SOCKET": str(path / "socket"), "EDGE_SECRET": SECRET})
        modules = "\n".join(f"load_module {module};" for module in debian_modules())
        text = CONFIGURATION % {"modules": modules, "folder": path, "port": port}
        (path / "nginx.conf").write_text(text)
        with child(nginx_command(Path(path)), path / "log") as process:
            wait_for_port(port, process)
            lua = Lua(port)
            yield lua
            lua.connection.close()
