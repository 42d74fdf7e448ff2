"""A CRM that verifies with verify.py. $KEYS and $TAKEN are as crmtest.go says. It prints its port and ends with its
standard input."""
import base64
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "verify"))
from verify import verify  # noqa: E402

keys = json.loads(os.environ["KEYS"])
taking = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path[1:]
        good = verify(path.split("/")[0], self.headers, body, keys[path])
        answer = b'{"status":"success"}' if good else b""
        if good:
            json.loads(body)
            taken = {"path": path, "id": self.headers["X-Webhook-Id"], "body": base64.b64encode(body).decode()}
            with taking, open(os.environ["TAKEN"], "a", encoding="utf-8") as f:
                f.write(json.dumps(taken) + "\n")
        self.send_response(200 if good else 401)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
