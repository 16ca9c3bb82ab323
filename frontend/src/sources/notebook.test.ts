import { gzipSync } from 'node:zlib'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { Update } from '../model/types'
import { NotebookSource } from './notebook'

/** The kernel's end of a port, with what the page sent. */
function cell() {
    const { port1, port2 } = new MessageChannel()
    const sent: Record<string, unknown>[] = []
    port1.onmessage = ({ data }) => sent.push(data)
    opened.push(port1, port2)
    return { kernel: port1, source: new NotebookSource(port2, 'page'), sent }
}
const opened: MessagePort[] = []
afterEach(() => opened.splice(0).forEach((port) => port.close()))

/** A packed document without arrays. */
function packed(doc: object): ArrayBuffer {
    const json = new TextEncoder().encode(JSON.stringify(doc))
    const bytes = new Uint8Array(8 + ((json.length + 7) & ~7))
    bytes.set(new TextEncoder().encode('NPD1'))
    new DataView(bytes.buffer).setUint32(4, json.length, true)
    bytes.set(json, 8)
    return Uint8Array.from(gzipSync(bytes)).buffer
}
const whole = (seq: number) =>
    packed({ meta: { seq }, overview: { state: 'running' }, timeline: { last: seq }, curves: { of: seq } })
const update = (seq: number, more: Partial<Update> = {}) =>
    ({
        seq,
        time: 0,
        state: 'running',
        points: {},
        changed: [],
        progress: {},
        reset: false,
        ...more,
    }) as unknown
const settled = () => new Promise((done) => setTimeout(done, 30))

async function following(seq = 5) {
    const made = cell()
    made.kernel.postMessage({ type: 'snapshot', buffer: whole(seq) })
    await made.source.document()
    const told: Update[] = []
    const stop = made.source.follow(
        seq,
        (one) => told.push(one),
        () => undefined,
    )
    await settled()
    return { ...made, told, stop }
}

describe('a page in a cell', () => {
    it('begins with the document that lies ready, and says that it is there', async () => {
        const { sent, stop } = await following(5)
        expect(sent).toEqual([{ type: 'hello', after: 5 }])
        stop()
    })

    it('takes updates that follow on, once', async () => {
        const { kernel, told, stop } = await following(5)
        kernel.postMessage({ type: 'update', after: 5, update: update(7) })
        kernel.postMessage({ type: 'update', after: 5, update: update(7) })
        kernel.postMessage({ type: 'update', after: 7, update: update(7, { state: 'finished' }) })
        kernel.postMessage({ type: 'update', after: 7, update: update(9) })
        await settled()
        expect(told.map((one) => [one.seq, one.state])).toEqual([
            [7, 'running'],
            [7, 'finished'],
            [9, 'running'],
        ])
        stop()
    })

    it('asks for a whole document where it missed something, and only then takes one', async () => {
        vi.spyOn(performance, 'now').mockReturnValue(1e9)
        const { kernel, source, told, sent, stop } = await following(5)
        kernel.postMessage({ type: 'update', after: 5, update: update(6) })
        kernel.postMessage({ type: 'snapshot', buffer: whole(8) }) // for another page
        await settled()
        expect(told.map((one) => one.seq)).toEqual([6])
        vi.spyOn(performance, 'now').mockReturnValue(1e9 + 5_000)
        kernel.postMessage({ type: 'update', after: 8, update: update(9) })
        await settled()
        expect(sent.at(-1)).toEqual({ type: 'hello', after: 6 })
        kernel.postMessage({ type: 'snapshot', buffer: whole(9) })
        await settled()
        expect(told.map((one) => [one.seq, one.reset])).toEqual([
            [6, false],
            [9, true],
        ])
        expect(await source.document(['meta', 'curves'])).toEqual({ meta: { seq: 9 }, curves: { of: 9 } })
        stop()
        vi.restoreAllMocks()
    })

    it('hands over sections that came along without asking, and holds news back until curves are taken', async () => {
        const { kernel, source, told, sent, stop } = await following(5)
        const sections = packed({ meta: { seq: 7 }, curves: { of: 7 }, log: { lines: [] } })
        kernel.postMessage({ type: 'update', after: 5, update: update(7), buffer: sections })
        kernel.postMessage({ type: 'update', after: 7, update: update(8) })
        await settled()
        expect(told.map((one) => one.seq)).toEqual([7])
        expect(await source.document(['meta', 'curves'])).toEqual({ meta: { seq: 7 }, curves: { of: 7 } })
        await settled()
        expect(told.map((one) => one.seq)).toEqual([7, 8])
        expect(await source.document(['log'])).toEqual({ log: { lines: [] } })
        expect(sent.length).toBe(1)
        stop()
    })

    it('starts afresh when told that what it shows is no longer so', async () => {
        const { kernel, told, stop } = await following(50)
        kernel.postMessage({ type: 'reset' })
        kernel.postMessage({ type: 'snapshot', buffer: whole(3) })
        kernel.postMessage({ type: 'update', after: 3, update: update(4) })
        await settled()
        expect(told.map((one) => [one.seq, one.reset])).toEqual([[3, true]]) // 4 waits for the curves
        stop()
    })

    it('gets answers to its own questions, also while news wait, and errors as errors', async () => {
        const { kernel, source, sent } = await following(5)
        const [curve, events] = [source.curve('loss', 0, 9, 10), source.events(null, '', 5)]
        await settled()
        const [one, two] = sent.slice(-2) as { id: string; path: string; query: unknown }[]
        expect([one!.path, one!.query]).toEqual(['curve', { name: 'loss', first: 0, last: 9, most: 10 }])
        kernel.postMessage({ type: 'answer', id: 'another page:1', error: 'not for us' })
        kernel.postMessage({ type: 'answer', id: two!.id, error: 'no such kind' })
        kernel.postMessage({ type: 'answer', id: one!.id, buffer: packed({ name: 'loss' }) })
        await expect(events).rejects.toThrow('no such kind')
        expect(await curve).toEqual({ name: 'loss' })
    })
})
