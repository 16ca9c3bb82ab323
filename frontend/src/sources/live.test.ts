import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Update } from '../model/types'
import { follow, type Pace } from './live'
import { MessageReader } from './stream'
import type { Connection } from './source'

const PACE: Pace = { silence: 300, poll: 20, streamAgain: 10_000, pause: 10, longest: 80 }
const update = (seq: number): Update => ({
    seq,
    time: 0,
    state: 'running',
    points: {},
    changed: [],
    progress: { phase: '', cycle: 0, step: seq, run_fraction: null, seconds_left: null, last_event: 0 },
    reset: false,
})

it('messages come whole, however the stream is cut', () => {
    const text = 'id: 1\nevent: update\ndata: {"a":\ndata: 1}\n\n: still here\n\nid: 2\r\ndata: x\r\n\r\n'
    for (let cut = 0; cut < text.length; cut++) {
        const reader = new MessageReader()
        const found = [...reader.read(text.slice(0, cut)), ...reader.read(text.slice(cut))]
        expect(found).toEqual([
            { id: '1', data: '{"a":\n1}' },
            { id: '2', data: 'x' },
        ])
    }
})

describe('following', () => {
    let server: Server
    let base: string
    let last = 0 // number of the newest event
    let streams: 'work' | 'hang' | 'refuse' | 'drop'
    let down = false
    const open = new Set<ServerResponse>()

    beforeEach(async () => {
        last = 0
        streams = 'work'
        down = false
        server = createServer((request, answer) => {
            if (down) return void request.socket.destroy()
            const address = new URL(request.url!, 'http://x')
            let seen = Number(address.searchParams.get('after'))
            if (address.pathname.endsWith('/updates')) return void answer.end(JSON.stringify(update(last)))
            if (streams === 'refuse') return void answer.writeHead(502).end()
            answer.writeHead(200, { 'Content-Type': 'text/event-stream' })
            open.add(answer)
            if (streams === 'hang') return
            answer.write(': hello\n\n')
            const timer = setInterval(() => {
                if (seen < last)
                    answer.write(`id: ${last}\ndata: ${JSON.stringify(update((seen = last)))}\n\n`)
                if (streams === 'drop' && Math.random() < 0.3) answer.destroy()
            }, 5)
            answer.on('close', () => clearInterval(timer))
        })
        await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
        base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    })
    afterEach(() => {
        for (const one of open) one.destroy()
        server.closeAllConnections()
        server.close()
    })

    async function watched(milliseconds: number, during: () => void | Promise<void> = () => {}) {
        const seen: number[] = []
        const said: Connection[] = []
        const stop = follow(
            base,
            0,
            (one) => seen.push(one.seq),
            (state) => said.at(-1) !== state && said.push(state),
            PACE,
        )
        const timer = setInterval(() => last++, 3)
        await during()
        await new Promise((done) => setTimeout(done, milliseconds))
        clearInterval(timer)
        await new Promise((done) => setTimeout(done, 250))
        stop()
        const rising = seen.every((seq, at) => at === 0 || seq >= seen[at - 1]!)
        return { end: seen.at(-1), rising, said }
    }

    it('streams', async () => {
        const { end, rising, said } = await watched(200)
        expect([end, rising, said]).toEqual([last, true, ['connecting', 'live']])
    })
    it('comes back to where it was when the line drops again and again', async () => {
        streams = 'drop'
        const { end, rising } = await watched(400, () => void setTimeout(() => (streams = 'work'), 300))
        expect([end, rising]).toEqual([last, true])
    })
    it('asks every second where streams are refused', async () => {
        streams = 'refuse'
        const { end, said } = await watched(200)
        expect([end, said.at(-1)]).toEqual([last, 'polling'])
    })
    it('asks where a proxy holds the stream up', async () => {
        streams = 'hang'
        const { end, said } = await watched(900)
        expect([end, said.at(-1)]).toEqual([last, 'polling'])
    })
    it('says that the server is gone, and streams again once it is back', async () => {
        const { end, said } = await watched(500, async () => {
            await new Promise((done) => setTimeout(done, 60))
            down = true
            for (const one of open) one.destroy()
            await new Promise((done) => setTimeout(done, 200))
            down = false
        })
        expect(said).toContain('lost')
        expect([end, said.at(-1)]).toEqual([last, 'live'])
    })
})
