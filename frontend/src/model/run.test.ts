import { beforeAll, expect, it } from 'vitest'
import type { Source } from '../sources/source'
import { RunModel } from './run.svelte'
import type { Curve, Doc, Update } from './types'

beforeAll(() => {
    globalThis.requestAnimationFrame = (draw) => Number(setTimeout(() => draw(performance.now()), 1))
})
const wait = (milliseconds: number) => new Promise((done) => setTimeout(done, milliseconds))

/** A server with one metric: event number n is step n with value n. */
class Server implements Source {
    readonly kind = 'live'
    last = 3
    tell: (update: Update) => void = () => {}
    asked: string[] = []

    async document(sections?: string[]): Promise<Partial<Doc>> {
        this.asked.push(sections?.join() ?? 'all')
        const steps = Int32Array.from({ length: this.last }, (_, at) => at + 1)
        const curve: Curve = {
            name: 'loss',
            label: 'training loss',
            unit: '',
            group: 'Loss',
            total: this.last,
            steps: { data: steps, shape: [this.last] },
            values: { data: Float64Array.from(steps), shape: [this.last] },
        }
        const clock = {
            steps: { data: new Int32Array(), shape: [0] },
            seconds: { data: new Float64Array(), shape: [0] },
        }
        const meta = { seq: this.last } as Doc['meta']
        const timeline = {
            spans: [],
            marks: [],
            boundaries: [],
            first: 0,
            last: this.last,
            series: [],
            smooth: [],
        }
        await wait(30) // what is told meanwhile is not in this answer
        return { meta, curves: { series: [curve], clock, exact: true }, timeline } as Partial<Doc>
    }
    follow(_after: number, update: (u: Update) => void) {
        this.tell = update
        return () => {}
    }
    /** The update from event `after` to `last`. */
    send(after: number, more: Partial<Update> = {}) {
        const steps = Array.from({ length: this.last - after }, (_, at) => after + at + 1)
        const progress = {
            phase: '',
            cycle: 0,
            step: this.last,
            run_fraction: null,
            seconds_left: null,
            last_event: 0,
        }
        const points = { loss: { steps, values: steps } }
        this.tell({
            seq: this.last,
            time: 0,
            state: 'running',
            points,
            changed: [],
            progress,
            reset: false,
            ...more,
        })
    }
}
async function opened(server: Server): Promise<RunModel> {
    const model = new RunModel(server)
    model.doc.watched = () => true // as if all of it were on the page
    await model.open()
    return model
}
const stepsOf = (model: RunModel) => [...model.doc.curves!.series[0]!.steps.data]
const upTo = (last: number) => Array.from({ length: last }, (_, at) => at + 1)

it('points are appended once each, and follow the newest step', async () => {
    const server = new Server()
    const model = await opened(server)
    let drawn = 0
    model.drawn = (seq) => (drawn = seq)
    for (; server.last < 40; server.last++) if (server.last > 3) server.send(server.last - 1)
    await wait(300)
    expect(stepsOf(model)).toEqual(upTo(39))
    expect([model.step, drawn]).toEqual([39, 39])
    model.close()
})

it('curves that are fetched again lose nothing that came meanwhile, and double nothing', async () => {
    const server = new Server()
    const model = await opened(server)
    server.last = 5
    server.send(3, { reset: true, points: {} })
    await wait(5) // the answer of 5 events is on its way
    server.last = 9
    server.send(5)
    await wait(60)
    server.last = 11
    server.send(9)
    await wait(300)
    expect(stepsOf(model)).toEqual(upTo(11))
    model.close()
})

it('an update that is partly in the curves already adds the rest of it', async () => {
    const server = new Server()
    const model = await opened(server)
    server.tell({ ...blank, seq: 3, reset: true })
    server.last = 6
    await wait(60) // the curves have six events now
    server.last = 8
    server.send(3)
    await wait(300)
    expect(stepsOf(model)).toEqual(upTo(8))
    model.close()
})

it('an answer of an abandoned attempt that comes after the reset is no news', async () => {
    const server = new Server()
    server.last = 90
    const model = await opened(server)
    model.doc.watched = () => true
    server.tell({ ...blank, seq: 90, changed: ['timeline'], progress: { ...blank.progress, step: 90 } })
    await wait(5) // an answer of 90 steps is on its way
    server.last = 5
    server.tell({ ...blank, seq: 91, reset: true })
    await wait(700)
    expect([model.last, model.step, stepsOf(model)]).toEqual([5, 5, upTo(5)])
    model.close()
})

it('points of one step stay apart, also where an update is partly in the curves already', async () => {
    const server = new Server()
    const model = await opened(server)
    server.last = 4
    server.tell({ ...blank, seq: 3, reset: true })
    await wait(60) // the curves have step 4 now
    const points: Update['points'] = { loss: { steps: [4, 4, 4, 5], values: [4, 4.5, 'nan', 5] } }
    server.tell({ ...blank, seq: 7, points, progress: { ...blank.progress, step: 5 } })
    await wait(300)
    expect([...model.doc.curves!.series[0]!.values.data]).toEqual([1, 2, 3, 4, 4.5, NaN, 5])
    expect(stepsOf(model)).toEqual([1, 2, 3, 4, 4, 4, 5])
    model.close()
})

it('a metric that is new is fetched with its curve', async () => {
    const server = new Server()
    const model = await opened(server)
    server.last = 4
    server.tell({ ...blank, seq: 4, points: { other: { steps: [4], values: ['nan'] } }, changed: ['curves'] })
    expect(model.seq).toBe(4)
    model.close()
})

it('cursor and zoom stay inside the run', async () => {
    const server = new Server()
    server.last = 1000
    const model = await opened(server)
    model.moveTo(-5)
    expect(model.step).toBe(0)
    model.moveTo(5000)
    expect(model.cursor).toBeNull()
    model.zoomTo(900, 1200)
    expect(model.zoom).toEqual([700, 1000])
    model.zoomTo(-10, 2000)
    expect(model.zoom).toBeNull()
    model.close()
})

const blank: Update = {
    seq: 0,
    time: 0,
    state: 'running',
    points: {},
    changed: [],
    progress: { phase: '', cycle: 0, step: 0, run_fraction: null, seconds_left: null, last_event: 0 },
    reset: false,
}
