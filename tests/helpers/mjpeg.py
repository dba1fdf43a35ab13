"""A camera that streams by HTTP, on loopback: JPEG frames in a multipart answer, as IP cameras do it."""

import base64
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np


class MjpegServer:
    """Each connection gets `frames` frames, brighter by 20 each, and then its end.

    The connections whose numbers are in `closed` get none. `login` is the user:password that it asks for.
    """

    def __init__(self, frames: int, login: str = "", closed: tuple[int, ...] = ()) -> None:
        self.connections = self.ended = 0
        expected = "Basic " + base64.b64encode(login.encode()).decode()
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if login and self.headers.get("Authorization") != expected:
                    self.send_response(401)
                    self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                    self.end_headers()
                    return
                number = camera.connections
                camera.connections += 1
                if number in closed:
                    self.send_error(503)
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                for index in range(frames):
                    jpeg = cv2.imencode(".jpg", np.full((128, 192, 3), 20 * index, np.uint8))[1].tobytes()
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
                camera.ended += 1

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def url(self, login: str = "") -> str:
        at = f"{login}@" if login else ""
        return f"http://{at}127.0.0.1:{self._server.server_port}/cam/1?token=hidden"

    def __enter__(self) -> "MjpegServer":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
