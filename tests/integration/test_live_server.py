"""The live server: what it shows equals the record, and who is kept out of it."""

from __future__ import annotations

import gzip
import math
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neural_plasticity import events as ev
from neural_plasticity.errors import InputError, RecordError
from neural_plasticity.record import RecordWriter, annotate, open_run
from neural_plasticity.render.page.document import LIVE, SECTIONS, document
from neural_plasticity.render.page.live import shell
from neural_plasticity.render.page.live.server import LiveServer, serve_in_thread
from neural_plasticity.render.page.packing import pack, unpack
from tests.live_client import Reply, Stream, ask
from tests.sample_run import HOSTILE, SampleRun, write_events

TOKEN = "a-token-for-tests"
START = ev.RunStarted(name="live", shape=(2, 3), config={})


@pytest.fixture(autouse=True)
def built(monkeypatch: pytest.MonkeyPatch) -> None:
    """The front end, without having to be built."""
    monkeypatch.setattr(shell, "asset", lambda name: f"/* {name} */")
    shell.hashed.cache_clear()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with serve_in_thread(tmp_path) as server:
        yield server


def steps(count: int) -> list[ev.Event]:
    return [START, *(ev.StepMetrics(step=one, metrics={"loss": one % 7 / 3}) for one in range(count))]


# What is shown --------------------------------------------------------------------------------------------------


def test_the_document_is_the_records(tmp_path: Path, server: LiveServer) -> None:
    write_events(tmp_path, SampleRun().events())
    shown = ask(server, "/api/runs/document").packed
    expected = unpack(pack(document(open_run(tmp_path), budget=LIVE)))
    assert shown.pop("meta")["seq"] == expected.pop("meta")["seq"]
    assert pack(shown) == pack(expected)
    assert list(shown) == list(SECTIONS)


def test_sections_are_given_as_asked_and_compressed_where_understood(tmp_path: Path, server: LiveServer) -> None:
    write_events(tmp_path, SampleRun().events())
    plain = ask(server, "/api/runs/document?sections=overview,log")
    assert list(plain.packed) == ["meta", "overview", "log"]
    packed = ask(server, "/api/runs/document?sections=overview,log", Accept_Encoding="br, gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body


def test_sections_that_did_not_change_are_not_built_again(
    tmp_path: Path, server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []

    def counted(run: object, names: list[str], budget: object) -> object:
        built.extend(names)
        return document(run, names, budget)  # type: ignore[arg-type]

    monkeypatch.setattr("neural_plasticity.render.page.live.documents.pages.document", counted)
    with RecordWriter.create(tmp_path) as writer:
        writer.append_many(steps(5))
        ask(server, "/api/runs/document?sections=heads,curves,log")
        ask(server, "/api/runs/document?sections=heads,curves,log")
        assert built == ["heads", "curves", "log"]
        writer.append(ev.LogLine(message="news"))
        built.clear()
        reply = ask(server, "/api/runs/document?sections=heads,curves,log").packed
        assert built == ["log"]
        assert reply["meta"]["seq"] == writer.last_seq
        assert [line["message"] for line in reply["log"]["lines"]] == ["news"]


def test_a_window_of_a_curve_is_exact_and_a_wide_one_keeps_its_extremes(tmp_path: Path, server: LiveServer) -> None:
    values = np.sin(np.arange(20_000) / 50)
    values[12_345] = 99.0
    events = [START, *(ev.StepMetrics(step=step, metrics={"loss": value}) for step, value in enumerate(values))]
    write_events(tmp_path, events)
    exact = ask(server, "/api/runs/curve?name=loss&first=12000&last=12999&most=1002").packed
    low, high = np.searchsorted(exact["steps"], [12_000, 13_000])
    assert exact["steps"][low:high].tolist() == list(range(12_000, 13_000))
    assert exact["values"][low:high].tobytes() == values[12_000:13_000].tobytes()
    wide = ask(server, "/api/runs/curve?name=loss&most=100").packed
    assert len(wide["steps"]) <= 100
    assert (wide["total"], wide["values"].max()) == (20_000, 99.0)
    assert ask(server, "/api/runs/curve?name=nothing").status == 404


def test_columns_are_read_on_not_again(tmp_path: Path, server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with RecordWriter.create(tmp_path) as writer:
        writer.append_many(steps(300))
        ask(server, "/api/runs/curve?name=loss")
        read: list[tuple[int, int]] = []
        from neural_plasticity.render.page.live import columns

        real = columns.stretches
        monkeypatch.setattr(
            columns, "stretches", lambda q, p, low, high: (read.append((low, high)), real(q, p, low, high))[1]
        )
        writer.append_many([ev.StepMetrics(step=step, metrics={"loss": 0.0, "rate": 1.0}) for step in (300, 301)])
        assert ask(server, "/api/runs/curve?name=loss").packed["total"] == 302
        assert read == [(302, 303)]
        assert ask(server, "/api/runs/curve?name=rate").packed["steps"].tolist() == [300, 301]


def test_events_page_back(tmp_path: Path, server: LiveServer) -> None:
    write_events(tmp_path, steps(30))
    last = ask(server, "/api/runs/events?most=10").packed
    assert [row["seq"] for row in last["rows"]] == list(range(22, 32))
    before = ask(server, "/api/runs/events?most=3&before=22").packed
    assert [row["seq"] for row in before["rows"]] == [19, 20, 21]
    assert [row["kind"] for row in ask(server, "/api/runs/events?kind=run_started").packed["rows"]] == ["run_started"]
    assert ask(server, "/api/runs/events?kind=never").packed["rows"] == []


def test_the_single_file_can_be_taken_along(
    tmp_path: Path, server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_events(tmp_path, SampleRun(name='evil"\r\nX: 1/../ñ').events())
    monkeypatch.setattr("neural_plasticity.render.page.render_page", lambda run: f"<html>{run.last_seq}</html>")
    reply = ask(server, "/api/runs/export")
    assert reply.body == f"<html>{open_run(tmp_path).last_seq}</html>".encode()
    disposition = reply.headers["Content-Disposition"]
    assert disposition.startswith("attachment; filename=")
    assert "X" not in reply.headers
    assert "/" not in disposition


def test_a_run_without_events_is_shown(tmp_path: Path, server: LiveServer) -> None:
    with RecordWriter.create(tmp_path) as writer:
        assert ask(server, "/api/runs/document").packed["meta"]["seq"] == 0
        with Stream(server) as stream:
            updates = stream.updates()
            assert next(updates)["seq"] == 0
            writer.append(START)
            assert next(updates)["seq"] == 1


def test_a_record_is_complete_in_its_file_though_the_page_holds_it_open(tmp_path: Path) -> None:
    with serve_in_thread(tmp_path) as server:
        with RecordWriter.create(tmp_path / "run") as writer:
            writer.append_many(steps(50))
            ask(server, "/api/runs/run/document")
        copy = tmp_path / "copy"
        copy.mkdir()
        shutil.copy(tmp_path / "run" / "run.sqlite", copy)
        assert open_run(copy).last_seq == 51


# The pages and the list -----------------------------------------------------------------------------------------


def test_the_page_names_its_run_and_where_everything_is(tmp_path: Path, server: LiveServer) -> None:
    write_events(tmp_path / "a" / "b", steps(1))
    assert b'data-root="./"' in ask(server, "/").body
    assert b"data-run" not in ask(server, "/").body
    for path, root in (("/run/a%2Fb", "../"), ("/run/a/b", "../../")):
        page = ask(server, path)
        assert f'data-root="{root}" data-run="a/b"'.encode() in page.body
    script = page.body.split(b'src="../../')[1].split(b'"')[0].decode()
    file = ask(server, f"/{script}")
    assert (file.status, file.body) == (200, b"/* app.js */")
    assert "immutable" in file.headers["Cache-Control"]
    assert ask(server, "/assets/app.js").status == 404


def test_a_directory_that_is_a_run_is_the_first_page(tmp_path: Path, server: LiveServer) -> None:
    write_events(tmp_path, steps(1))
    assert b'data-run="."' in ask(server, "/").body
    assert [one["id"] for one in ask(server, "/api/runs").json] == ["."]
    for path in ("/api/runs/document", "/api/runs/./document", "/api/runs/%2E/document"):
        assert ask(server, path).packed["meta"]["seq"] == 2


def test_what_names_a_page_is_text(tmp_path: Path, server: LiveServer) -> None:
    page = ask(server, "/run/%3C/title%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E%22").body
    assert b"<script>alert" not in page
    assert b"&lt;script&gt;" in page


def test_the_list_has_every_run_whatever_state_it_is_in(tmp_path: Path, server: LiveServer) -> None:
    write_events(tmp_path / "done", SampleRun(name=HOSTILE).events())
    annotate(tmp_path / "done", tags=["paper"])
    write_events(tmp_path / "sweep" / "s1" / "going", steps(3))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.sqlite").write_bytes(b"this is no database" * 100)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "run.sqlite").touch()
    (tmp_path / ".hidden").mkdir()
    shutil.copytree(tmp_path / "done", tmp_path / ".hidden" / "done")
    entries = {one["id"]: one for one in ask(server, "/api/runs").json}
    assert set(entries) == {"done", "sweep/s1/going", "broken", "empty"}
    assert entries["done"]["state"] == "finished"
    assert entries["done"]["tags"] == ["paper"]
    assert entries["done"]["figures"]["perplexity"] > 1
    assert entries["done"]["simulated"]
    assert (entries["sweep/s1/going"]["state"], entries["sweep/s1/going"]["step"]) == ("running", 2)
    assert "not one" in entries["broken"]["error"]
    assert entries["empty"]["error"]
    assert entries["done"]["error"] is None
    assert ask(server, "/api/runs/broken/document").status == 404


def test_a_link_that_leads_round_and_a_name_that_is_no_text_hide_no_other_run(
    tmp_path: Path, server: LiveServer
) -> None:
    write_events(tmp_path / "one", steps(1))
    (tmp_path / "to-itself").symlink_to("to-itself")
    (tmp_path / "round").symlink_to(".")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd-\xff"))
    try:
        write_events(odd, steps(1))
    except RecordError:
        pytest.skip("this file system takes no such name")
    entries = {one["id"]: one["error"] for one in ask(server, "/api/runs").json}
    assert entries.keys() == {"one", "odd-\ufffd"}
    assert entries["one"] is None
    assert "UTF-8" in entries["odd-\ufffd"]


def test_a_run_that_begins_later_appears_and_can_be_watched(
    tmp_path: Path, server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neural_plasticity.render.page.live.registry.LIST_SECONDS", 0.0)
    monkeypatch.setattr("neural_plasticity.render.page.live.registry.LIST_SHARE", math.inf)
    assert ask(server, "/api/runs").json == []
    assert ask(server, "/api/runs/new/document").status == 404
    with RecordWriter.create(tmp_path / "new") as writer:
        writer.append_many(steps(2))
        assert [one["step"] for one in ask(server, "/api/runs").json] == [1]
        writer.append(ev.StepMetrics(step=2, metrics={"loss": 1.0}))
        assert [one["step"] for one in ask(server, "/api/runs").json] == [2]
        assert ask(server, "/api/runs/new/updates?after=3").json["points"]["loss"]["steps"] == [2]


# Who is kept out ------------------------------------------------------------------------------------------------


def outside(tmp_path: Path) -> Path:
    """A run beside the served directory, which nobody may see."""
    return write_events(tmp_path / "outside", steps(1))


@pytest.mark.parametrize(
    "way",
    ["../outside", "..%2Foutside", "%2e%2e/outside", "%2E%2E%2Foutside", "a/../../outside", "a%2F..%2F..%2Foutside",
     "..\\outside", "..%5Coutside", "link", "sub/link", "file-link", "%00", "outside%00", "/etc", "//etc", "%2Fetc",
     "absolute", "x" * 5000, "\u00e9", "%ff"],
)  # fmt: skip
def test_no_path_leads_outside(tmp_path: Path, way: str) -> None:
    directory = outside(tmp_path)
    served = tmp_path / "served"
    (served / "a").mkdir(parents=True)
    (served / "sub").mkdir()
    (served / "file-link").mkdir()
    (served / "link").symlink_to(directory)
    (served / "sub" / "link").symlink_to(directory)
    (served / "file-link" / "run.sqlite").symlink_to(directory / "run.sqlite")
    way = str(directory).replace("/", "%2F") if way == "absolute" else way
    with serve_in_thread(served) as server:
        for what in ("document", "events", "updates", "stream", "export", "curve?name=loss"):
            reply = raw(server, f"/api/runs/{way}/{what}".encode())
            assert reply.split(b" ")[1] in (b"404", b"400"), reply[:200]
            assert b"loss" not in reply.partition(b"\r\n\r\n")[2]
        assert {one["id"] for one in ask(server, "/api/runs").json} <= {"file-link"}
        assert raw(server, f"/assets/{way}".encode()).split(b" ")[1] in (b"404", b"400")


def raw(server: LiveServer, path: bytes) -> bytes:
    """The whole answer to a request whose path is sent byte by byte as it is."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65_536), b""))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_it_only_shows(server: LiveServer, method: str) -> None:
    reply = ask(server, "/api/runs", method)
    assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")


def test_head_is_an_answer_without_its_body(tmp_path: Path, server: LiveServer) -> None:
    write_events(tmp_path, steps(1))
    for path in ("/api/runs", "/api/runs/document", "/api/runs/stream"):
        reply = ask(server, path, "HEAD")
        assert (reply.status, reply.body) == (200, b"")


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "localhost@evil.example",
     "evil.example#127.0.0.1", "", "[::1", "192.168.0.7"],
)  # fmt: skip
def test_a_foreign_name_that_leads_here_gets_nothing(tmp_path: Path, server: LiveServer, host: str) -> None:
    write_events(tmp_path, steps(1))
    for path in ("/", "/api/runs", "/api/runs/document", "/api/runs/stream"):
        assert ask(server, path, host=host).status in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8421", "localhost."])
def test_its_own_names_are_fine(server: LiveServer, host: str) -> None:
    assert ask(server, "/api/runs", host=host).status == 200


def test_other_sites_get_nothing(tmp_path: Path, server: LiveServer) -> None:
    write_events(tmp_path, steps(1))
    own = f"http://127.0.0.1:{server.port}"
    for origin in ("http://evil.example", "null", "http://127.0.0.1", "http://localhost:3000", "file://", "http://["):
        assert ask(server, "/api/runs/document", Origin=origin).status == 403
    assert ask(server, "/api/runs/document", Origin=own).status == 200
    for site in ("cross-site", "same-site"):
        assert ask(server, "/api/runs/document", Sec_Fetch_Site=site).status == 403
        assert ask(server, "/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="iframe").status == 403
        assert ask(server, "/", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors", Sec_Fetch_Dest="script").status == 403
        # A person who follows a link on another site
        assert ask(server, "/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document").status == 200
    assert ask(server, "/api/runs", Sec_Fetch_Site="same-origin").status == 200
    assert "Access-Control-Allow-Origin" not in ask(server, "/api/runs", Origin=own).headers


def test_every_answer_says_what_a_browser_may_do_with_it(tmp_path: Path, server: LiveServer) -> None:
    write_events(tmp_path, steps(1))
    for path in ("/", "/api/runs", "/api/runs/document", "/nowhere", "/api/runs/nowhere/document"):
        headers = ask(server, path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'; style-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert "Server" not in headers
    with Stream(server) as stream:
        assert "default-src 'none'" in stream._response.headers["Content-Security-Policy"]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[LiveServer]:
    write_events(tmp_path, steps(1))
    with serve_in_thread(tmp_path, token=TOKEN) as server:
        yield server


PATHS = ("/", "/run/x", "/api/runs", "/api/runs/document", "/api/runs/stream", "/api/runs/updates", "/assets/app.js")


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_shown(guarded: LiveServer, path: str) -> None:
    for headers in ({}, {"Cookie": f"npd-token-{guarded.port}={TOKEN}"}, {"Cookie": "npd-token=1; ="},
                    {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):  # fmt: skip
        reply = ask(guarded, path, **headers)
        assert reply.status == 401
        assert b"loss" not in reply.body
    joined = "&" if "?" in path else "?"
    for wrong in ("", "wrong", TOKEN[:-1], TOKEN + "x", "\u00e9".encode().hex(), "%C3%A9"):
        assert ask(guarded, f"{path}{joined}token={wrong}").status == 401


def cookie_of(reply: Reply) -> str:
    cookie = reply.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    return cookie.split(";")[0]


def test_the_token_is_shown_once_and_leaves_the_address(guarded: LiveServer) -> None:
    assert guarded.url.endswith(f"?token={TOKEN}")
    reply = ask(guarded, f"/run/a%2Fb?x=1&token={TOKEN}")
    assert (reply.status, reply.headers["Location"]) == (303, "./a%2Fb?x=1")
    cookie = cookie_of(reply)
    assert ask(guarded, "/api/runs/document", Cookie=cookie).status == 200
    assert ask(guarded, "/api/runs/document", Cookie=f"other=1; {cookie}").status == 200
    assert ask(guarded, "/api/runs/document", Authorization=f"Bearer {TOKEN}").status == 200
    assert ask(guarded, "/api/runs/document", Cookie=cookie, Origin="http://evil.example").status == 403


def test_after_a_link_elsewhere_the_page_goes_on_by_itself(guarded: LiveServer) -> None:
    """A redirect would count as the other site's request, and come without the strict cookie."""
    headers = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    reply = ask(guarded, f"/?token={TOKEN}", **headers)
    assert reply.status == 200
    assert cookie_of(reply)
    assert b'http-equiv="refresh" content="0; url=./"' in reply.body
    assert TOKEN.encode() not in reply.body


def test_beyond_this_machine_there_is_always_a_token(tmp_path: Path) -> None:
    with serve_in_thread(tmp_path, host="0.0.0.0") as server:
        assert server.token is not None
        assert len(server.token) >= 32
        assert ask(server, "/api/runs").status == 401
        assert ask(server, "/api/runs", host="some.name", Authorization=f"Bearer {server.token}").status == 200


def test_a_page_that_may_be_framed_says_by_whom(tmp_path: Path) -> None:
    with serve_in_thread(tmp_path, hosts=["proxy.example"], frame_ancestors="https://lab.example") as server:
        reply = ask(server, "/", host="proxy.example", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate",
                    Sec_Fetch_Dest="iframe")  # fmt: skip
        assert reply.status == 200
        assert "frame-ancestors https://lab.example" in reply.headers["Content-Security-Policy"]
        assert "X-Frame-Options" not in reply.headers
        assert ask(server, "/api/runs", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="cors").status == 403


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("document?sections=overview,nothing", "sections"), ("curve", "name"), ("curve?name=loss&most=0", "most"),
        ("curve?name=loss&most=999999999", "most"), ("curve?name=loss&first=x", "first"),
        ("curve?name=loss&last=1e3", "last"), (f"curve?name={'x' * 1001}", "name"), ("events?before=-1", "before"),
        ("events?most=5000", "most"), ("updates?after=%D9%A3", "after"), (f"updates?after={'9' * 30}", "after"),
        ("stream?after=-1", "after"), (f"updates?after=1&x={'x' * 9000}", "query"),
    ],
)  # fmt: skip
def test_a_wrong_question_is_answered_in_one_line(tmp_path: Path, server: LiveServer, path: str, name: str) -> None:
    write_events(tmp_path, steps(1))
    reply = ask(server, f"/api/runs/{path}")
    assert reply.status == 400
    assert reply.json["error"].startswith(name)
    assert "\n" not in reply.json["error"]
    assert len(reply.json["error"]) < 300


def test_a_wrong_last_event_id_is_refused(tmp_path: Path, server: LiveServer) -> None:
    write_events(tmp_path, steps(1))
    assert ask(server, "/api/runs/stream", Last_Event_ID="abc").status == 400


# Starting it ----------------------------------------------------------------------------------------------------


def test_what_cannot_be_served_is_said_in_one_line(tmp_path: Path, server: LiveServer) -> None:
    for wrong, given in (
        ("none", {"directory": tmp_path / "none"}),
        ("something else listens", {"directory": tmp_path, "port": server.port}),
        ("cannot listen", {"directory": tmp_path, "host": "203.0.113.9"}),
        ("cannot listen", {"directory": tmp_path, "port": 99_999}),
        ("--token", {"directory": tmp_path, "token": "short"}),
        ("frame_ancestors", {"directory": tmp_path, "frame_ancestors": "x; script-src *"}),
    ):
        with pytest.raises(InputError, match=wrong) as caught:
            serve_in_thread(**given)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neural_plasticity.render.page.live.server.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"starlette and uvicorn: pip install 'neural-plasticity\[serve\]'"):
        serve_in_thread(tmp_path)


def test_closing_ends_streams_and_lets_the_port_go(tmp_path: Path) -> None:
    write_events(tmp_path, steps(1))
    server = serve_in_thread(tmp_path)
    with Stream(server) as stream:
        updates = stream.updates()
        next(updates)
        began = time.monotonic()
        server.close()
        assert list(updates) == []
        assert time.monotonic() - began < 10
    server.close()
    assert server.wait(0)
    assert not [one for one in threading.enumerate() if one.name == "live-page"]
    with serve_in_thread(tmp_path, port=server.port):
        pass


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_listed_with_its_error(tmp_path: Path, server: LiveServer) -> None:
    write_events(tmp_path / "run", steps(1))
    (tmp_path / "run" / "run.sqlite").chmod(0)
    assert ask(server, "/api/runs").json[0]["error"]
