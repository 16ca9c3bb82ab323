"""A notebook in small: a real kernel, real comm messages, and a browser that loads the widget as a notebook would."""

from __future__ import annotations

import base64
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel
from playwright.sync_api import Browser, Page

# What a widget manager gives a widget: `model`, an element, and buffers as DataViews.
_NOTEBOOK = """
window.cells = {}
const view = (text) => new DataView(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer)
window.comm = {
  async open(id, state, buffers) {
    const listeners = {}
    for (const [name, text] of Object.entries(buffers)) state[name] = view(text)
    const call = (event, ...given) => [...(listeners[event] ?? [])].forEach((one) => one(...given))
    const model = {
      get: (name) => state[name],
      send: (content) => window.toKernel(id, content),
      on: (event, listener) => (listeners[event] ??= new Set()).add(listener),
      off: (event, listener) => listeners[event]?.delete(listener),
    }
    const url = URL.createObjectURL(new Blob([state._esm], { type: 'text/javascript' }))
    const { render } = (await import(url)).default
    window.cells[id] = { state, call, model, render, views: [] }
  },
  show(id, into) {
    const { model, render, views } = window.cells[id]
    const el = document.createElement('div')
    document.querySelector(into).append(el)
    views.push(render({ model, el }))
  },
  update(id, state, buffers) {
    const cell = window.cells[id]
    for (const [name, text] of Object.entries(buffers)) state[name] = view(text)
    for (const [name, value] of Object.entries(state)) {
      cell.state[name] = value
      cell.call('change:' + name)
    }
  },
  message: (id, content, buffers) => window.cells[id].call('msg:custom', content, buffers.map(view)),
  leave: (id) => window.cells[id].views.pop()(),
}
"""


class Notebook:
    """Cells that run in the kernel, outputs that go to the browser page."""

    def __init__(self, client: BlockingKernelClient, page: Page) -> None:
        self.client = client
        self.page = page
        self.outputs: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self.idle: set[str] = set()
        page.expose_function("toKernel", self._to_kernel)
        page.evaluate(_NOTEBOOK)

    def _to_kernel(self, comm_id: str, content: dict[str, Any]) -> None:
        data = {"method": "custom", "content": content}
        self.client.shell_channel.send(self.client.session.msg("comm_msg", {"comm_id": comm_id, "data": data}))

    def start(self, code: str) -> str:
        """Begin a cell; returns its message's id."""
        return str(self.client.execute(code, store_history=False))

    def run(self, code: str, seconds: float = 60) -> None:
        """Run a cell to its end, the browser following meanwhile."""
        cell = self.start(code)
        self.until(lambda: cell in self.idle, seconds)
        assert not self.errors, self.errors[0]

    def until(self, done: Callable[[], Any], seconds: float = 30) -> None:
        """Carry messages to and fro until ``done()``."""
        end = time.monotonic() + seconds
        while not done():
            assert time.monotonic() < end, f"waited {seconds} s; errors of the kernel: {self.errors}"
            self._carry()
            self.page.wait_for_timeout(20)

    def _carry(self) -> None:
        while True:
            try:
                message = self.client.get_iopub_msg(timeout=0)
            except queue.Empty:
                return
            self._take(message["msg_type"], message["content"], message)

    def _take(self, kind: str, content: dict[str, Any], message: dict[str, Any]) -> None:
        if kind == "status" and content["execution_state"] == "idle":
            self.idle.add(message["parent_header"].get("msg_id", ""))
        elif kind == "error":
            self.errors.append("\n".join(content["traceback"]))
        elif kind in ("display_data", "update_display_data"):
            self.outputs.append({"kind": kind, **content})
        elif kind == "comm_open" and "_esm" in content["data"]["state"]:
            data = content["data"]
            self.page.evaluate(
                "([id, state, buffers]) => comm.open(id, state, buffers)",
                [content["comm_id"], data["state"], _named(data.get("buffer_paths", ()), message["buffers"])],
            )
        elif kind == "comm_msg":
            self._message(content["comm_id"], content["data"], message["buffers"])

    def _message(self, comm_id: str, data: dict[str, Any], buffers: list[Any]) -> None:
        if not self.page.evaluate("(id) => id in cells", comm_id):
            return
        if data["method"] == "custom":
            texts = [base64.b64encode(one).decode() for one in buffers]
            self.page.evaluate("(all) => comm.message(...all)", [comm_id, data["content"], texts])
        elif data["method"] == "update":
            named = _named(data.get("buffer_paths", ()), buffers)
            self.page.evaluate("(all) => comm.update(...all)", [comm_id, data["state"], named])

    def widget_id(self) -> str:
        """Model id of the widget displayed last."""
        mime = "application/vnd.jupyter.widget-view+json"
        return str(next(one["data"][mime]["model_id"] for one in reversed(self.outputs) if mime in one["data"]))


def _named(paths: Any, buffers: list[Any]) -> dict[str, str]:
    return {path[0]: base64.b64encode(one).decode() for path, one in zip(paths, buffers, strict=True)}


@contextmanager
def kernel() -> Iterator[BlockingKernelClient]:
    """A kernel of this environment."""
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def watched_page(browser: Browser) -> tuple[Page, list[str]]:
    """A page, and what goes wrong on it: errors, and requests other than of what lies in the page itself."""
    wrong: list[str] = []
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("console", lambda said: wrong.append(f"console: {said.text}") if said.type == "error" else None)
    page.on("request", lambda one: None if one.url.startswith(("data:", "blob:")) else wrong.append(one.url))
    return page, wrong
