"""The live page's updates against the record: nothing is missed, nothing comes twice, whatever happens on the way."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from neural_plasticity import events as ev
from neural_plasticity.record import RecordWriter, annotate, open_run
from neural_plasticity.render.page.live import follower as following
from neural_plasticity.render.page.live.client import HEARTBEAT, MOST_WAITING, Client
from neural_plasticity.render.page.live.server import LiveServer, serve_in_thread
from tests.live_client import Picture, Stream, ask, recorded_points, same
from tests.sample_run import SampleRun, write_events

T = TypeVar("T")
START = ev.RunStarted(name="live", shape=(2, 3), config={})


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    with serve_in_thread(tmp_path) as server:
        yield server


def step(number: int, value: float = 0.5) -> ev.StepMetrics:
    return ev.StepMetrics(step=number, phase="warmup", metrics={"loss": value, "rate": value / 7})


def until(condition: object, seconds: float = 20.0) -> None:
    """Wait for what a thread does."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.01)
    assert condition()  # type: ignore[operator]


def played(coroutine: Coroutine[Any, Any, T]) -> T:
    """What it returns, in a thread of its own: the browser of other tests may have a loop going in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def follow(server: LiveServer, picture: Picture, last: int, run: str = "") -> None:
    """Read a stream from where ``picture`` is until it has event ``last``."""
    with Stream(server, run, picture.seq) as stream:
        for update in stream.updates():
            picture.take(update)
            if picture.seq >= last:
                return


def test_a_stream_and_a_poll_tell_what_the_record_holds(tmp_path: Path, server: LiveServer) -> None:
    write_events(tmp_path, SampleRun().events())
    run = open_run(tmp_path)
    streamed, polled = Picture(), Picture()
    follow(server, streamed, run.last_seq)
    polled.take(ask(server, "/api/runs/updates?after=0").json)
    assert same(streamed.points, recorded_points(run))
    assert same(polled.points, recorded_points(run))
    assert (streamed.state, polled.state) == ("finished", "finished")
    assert streamed.changed == polled.changed


def test_numbers_that_json_lacks_arrive(tmp_path: Path, server: LiveServer) -> None:
    values = [math.nan, math.inf, -math.inf, 5e-324, 1 / 3]
    write_events(tmp_path, [START, *(step(number, value) for number, value in enumerate(values))])
    picture = Picture()
    follow(server, picture, 6)
    assert same(picture.points, recorded_points(open_run(tmp_path)))


def test_reconnecting_at_any_moment_misses_nothing(tmp_path: Path, server: LiveServer) -> None:
    """A process records while clients lose their connections at random, one by stream and one by poll."""
    last = 800
    writer = RecordWriter.create(tmp_path)
    writer.append(START)

    def record() -> None:
        chance = random.Random(1)
        for number in range(1, last):
            writer.append(step(number, chance.random()))
            if number % 3 == 0:
                time.sleep(chance.random() / 200)

    thread = threading.Thread(target=record)
    thread.start()
    streamed, polled, chance = Picture(), Picture(), random.Random(2)
    while streamed.seq < last:
        with Stream(server, after=streamed.seq, resume=chance.random() < 0.5) as stream:
            for update in itertools.islice(stream.updates(), chance.randrange(1, 4)):
                streamed.take(update)
                if streamed.seq == last:  # nothing comes after it, however many updates were to be waited for
                    break
        if chance.random() < 0.5:
            polled.take(ask(server, f"/api/runs/updates?after={polled.seq}").json)
    thread.join()
    polled.take(ask(server, f"/api/runs/updates?after={polled.seq}").json)
    writer.close()
    expected = recorded_points(open_run(tmp_path))
    assert same(streamed.points, expected)
    assert same(polled.points, expected)
    assert streamed.resets == polled.resets == 0


def test_a_document_and_the_updates_after_it_join_exactly(tmp_path: Path, server: LiveServer) -> None:
    writer = RecordWriter.create(tmp_path)
    writer.append(START)
    stop = threading.Event()

    def record() -> None:
        for number in itertools.count(1):
            writer.append(step(number))
            if stop.wait(0.003):
                return

    thread = threading.Thread(target=record)
    thread.start()
    try:
        for _ in range(10):
            picture = Picture()
            picture.start_from(ask(server, "/api/runs/document?sections=curves,overview").packed)
            follow(server, picture, picture.seq + 10)
            steps = [number for number, _ in picture.points["loss"]]
            assert steps == list(range(1, len(steps) + 1))
    finally:
        stop.set()
        thread.join()
        writer.close()


def test_too_far_behind_starts_afresh(tmp_path: Path, server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MOST_EVENTS", 50)
    writer = RecordWriter.create(tmp_path)
    writer.append_many([START, *map(step, range(100))])
    assert ask(server, "/api/runs/updates?after=1").json["reset"]
    assert not ask(server, "/api/runs/updates?after=101").json["reset"]
    assert ask(server, "/api/runs/updates?after=102").json["reset"]  # what this server never said
    assert len(ask(server, "/api/runs/updates?after=60").json["points"]["loss"]["steps"]) == 41
    writer.append_many(map(step, range(100, 200)))  # more at once than an update holds
    assert ask(server, "/api/runs/updates?after=101").json["reset"]
    writer.append(step(200))
    assert ask(server, "/api/runs/updates?after=201").json["points"]["loss"]["steps"] == [200]
    writer.close()


def test_a_new_attempt_starts_afresh_and_replaces_what_was_abandoned(tmp_path: Path, server: LiveServer) -> None:
    write_events(tmp_path, [START, *map(step, range(10)), ev.RunEnded(step=9, state="stopped")])
    picture = Picture()
    picture.start_from(ask(server, "/api/runs/document").packed)
    with Stream(server, after=picture.seq) as stream:
        updates = stream.updates()
        picture.take(next(updates))
        assert picture.state == "stopped"
        with RecordWriter.reopen(tmp_path, after_seq=6) as writer:
            writer.append_many([START, step(5, 0.7)])
            while not picture.resets:
                picture.take(next(updates))
            picture.start_from(ask(server, "/api/runs/document").packed)
            writer.append(step(6, 0.8))
            while picture.seq < writer.last_seq:
                picture.take(next(updates))
    run = open_run(tmp_path)
    assert same(picture.points, recorded_points(run))
    assert picture.state == "running"
    # Whoever was away during that is told too; whoever has seen it is not told again.
    assert ask(server, "/api/runs/updates?after=12").json["reset"]
    assert not ask(server, "/api/runs/updates?after=13").json["reset"]


def test_a_new_attempt_takes_back_what_a_section_showed(tmp_path: Path, server: LiveServer) -> None:
    samples = [ev.TextSample(step=one, prompt="p", text=f"at {one}") for one in range(4)]
    write_events(tmp_path, [START, *samples])

    def texts() -> list[str]:
        return [row["text"] for row in ask(server, "/api/runs/document?sections=samples").packed["samples"]["rows"]]

    assert texts() == ["at 0", "at 1", "at 2", "at 3"]
    with RecordWriter.reopen(tmp_path, after_seq=3) as writer:
        writer.append(START)  # none of the kinds of events that a sample comes with
        assert texts() == ["at 0", "at 1"]


def test_thousands_of_names_cost_neither_memory_nor_time(
    tmp_path: Path, server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "MOST_POINTS", 100)
    wide = {f"head {number}": 0.5 for number in range(30)}
    writer = RecordWriter.create(tmp_path)
    writer.append_many([START, *(ev.StepMetrics(step=one, metrics=wide) for one in range(3))])
    picture = Picture()
    picture.start_from(ask(server, "/api/runs/document").packed)
    assert not ask(server, "/api/runs/updates?after=1").json["reset"]
    for number in range(3, 8):
        writer.append(ev.StepMetrics(step=number, metrics=wide))
        assert not ask(server, f"/api/runs/updates?after={number + 1}").json["reset"]
    assert ask(server, "/api/runs/updates?after=1").json["reset"]
    told = ask(server, "/api/runs/updates?after=6").json  # partly from the file again
    assert [len(told["points"]), told["points"]["head 7"]["steps"]] == [30, [5, 6, 7]]
    writer.append_many(ev.StepMetrics(step=one, metrics=wide) for one in range(8, 12))
    assert ask(server, "/api/runs/updates?after=9").json["reset"]
    writer.close()


def test_a_stream_ends_where_the_record_can_no_longer_be_read(tmp_path: Path, server: LiveServer) -> None:
    write_events(tmp_path, [START, step(0)])
    with Stream(server) as stream:
        updates = stream.updates()
        assert next(updates)["seq"] == 2
        with contextlib.closing(sqlite3.connect(tmp_path / "run.sqlite", isolation_level=None)) as connection:
            connection.execute(
                "INSERT INTO recorded VALUES (3, 1, 0, 'warmup', 0, 1, 0.0, 'log_line', 1, NULL, '{\"mess', NULL)"
            )
        assert list(updates) == []
    refused = ask(server, "/api/runs/updates?after=2")
    assert (refused.status, "event 3" in refused.json["error"]) == (422, True)


def test_changes_name_the_sections_to_fetch_again(tmp_path: Path, server: LiveServer) -> None:
    with RecordWriter.create(tmp_path) as writer:
        writer.append_many([START, step(1)])

        def told(*events: ev.Event) -> set[str]:
            after = writer.last_seq
            ask(server, "/api/runs/updates")  # it knows what came before
            writer.append_many(events)
            return set(ask(server, f"/api/runs/updates?after={after}").json["changed"])

        assert "curves" not in told(step(2))  # the points themselves come
        assert "curves" in told(ev.StepMetrics(step=3, metrics={"new": 1.0}))
        assert {"log", "events"} <= told(ev.LogLine(step=3, message="hello"))
        assert {"timeline", "overview"} <= told(ev.PhaseStarted(step=4, phase="analysis"))
        assert told() == set()
    annotate(tmp_path, note="after all")
    update = ask(server, f"/api/runs/updates?after={writer.last_seq}").json
    assert "overview" in update["changed"]
    assert update["progress"]["phase"] == "analysis"


def test_an_open_phase_is_told_as_a_reload_would(tmp_path: Path, server: LiveServer) -> None:
    """Cycles are not made again by the page, and the others not when the run stops within a phase."""
    with RecordWriter.create(tmp_path) as writer:
        writer.append_many([START, ev.PhaseStarted(phase="fine-tuning", cycle=1, step=1)])

        def told(*events: ev.Event) -> set[str]:
            ask(server, "/api/runs/updates")
            writer.append_many(events)
            return set(ask(server, f"/api/runs/updates?after={writer.last_seq - len(events)}").json["changed"])

        def trained() -> int:
            answer = ask(server, "/api/runs/document?sections=cycles").packed
            return int(answer["cycles"]["cycles"][0]["training"]["steps"])

        assert trained() == 0
        assert "cycles" in told(step(2), step(3))
        assert trained() == 2
        assert {"warmup", "fine_tuning", "cycles"} <= told(ev.RunEnded(state="stopped", step=3))


def test_a_run_that_falls_silent_says_so_without_an_event(
    tmp_path: Path, server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RecordWriter.create(tmp_path) as writer:
        writer.append_many([START, step(1)])
        with Stream(server, after=0) as stream:
            updates = stream.updates()
            assert next(updates)["state"] == "running"
            monkeypatch.setattr("neural_plasticity.render.page.live.updates.STALE_SECONDS", -1.0)
            silent = next(updates)
            assert (silent["state"], silent["points"]) == ("stale", {})
            assert "overview" in silent["changed"]


def test_many_clients_hear_the_same(tmp_path: Path, server: LiveServer) -> None:
    with RecordWriter.create(tmp_path) as writer:
        writer.append(START)
        streams = [Stream(server, after=1) for _ in range(8)]
        pictures = [Picture() for _ in streams]
        writer.append_many(map(step, range(30)))
        for stream, picture in zip(streams, pictures, strict=True):
            for update in stream.updates():
                picture.take(update)
                if picture.seq >= 31:
                    break
            stream.close()
    assert all(same(picture.points, recorded_points(open_run(tmp_path))) for picture in pictures)


def test_nobody_watching_costs_nothing(tmp_path: Path, server: LiveServer) -> None:
    write_events(tmp_path, [START, step(1)])
    with Stream(server) as stream:
        next(stream.updates())
        (watched,) = server._registry._open.values()
        task = watched.follower._task
        assert task is not None
        assert not task.done()
    until(task.done)


def test_a_record_made_anew_starts_afresh(tmp_path: Path, server: LiveServer) -> None:
    directory = tmp_path / "run"
    write_events(directory, [START, *map(step, range(5))])
    with Stream(server, "run", 0) as stream:
        updates = stream.updates()
        assert next(updates)["seq"] == 6
        shutil.rmtree(directory)
        write_events(directory, [START, step(1, 0.9)])
        rest = list(updates)
    assert rest[-1]["reset"]
    document = ask(server, "/api/runs/run/document?sections=curves").packed
    assert document["meta"]["seq"] == 2
    assert document["curves"]["series"][0]["values"].tolist() == [0.9]


def test_closing_tells_the_last_news_first(tmp_path: Path) -> None:
    with serve_in_thread(tmp_path) as server, RecordWriter.create(tmp_path) as writer:
        writer.append(START)
        with Stream(server, after=1) as stream:
            updates = stream.updates()
            next(updates)
            writer.append(ev.RunEnded(state="finished"))
            server.close()
            assert [update["state"] for update in updates][-1] == "finished"
    assert server.wait(0)


def test_who_reads_too_slowly_starts_afresh_and_costs_no_memory() -> None:
    async def read() -> list[bytes]:
        client = Client()
        for number in range(10 * MOST_WAITING):
            client.push(b"%d;" % number, b"afresh;")
            assert len(client._waiting) <= MOST_WAITING
        client.close()
        return b"".join([message async for message in client.messages()]).split(b";")[:-1]

    messages = played(read())
    assert messages[0] == b"afresh"
    assert messages[-1] == b"%d" % (10 * MOST_WAITING - 1)
    assert [int(one) for one in messages[1:]] == list(range(10 * MOST_WAITING - len(messages) + 1, 10 * MOST_WAITING))


def test_a_silent_stream_has_a_heartbeat() -> None:
    async def first() -> bytes:
        return await anext(Client().messages(heartbeat=0.01))

    assert played(first()) == HEARTBEAT
