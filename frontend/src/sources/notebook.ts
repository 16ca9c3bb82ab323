/**
 * A notebook's cell. The page lies in a frame of its own, so that neither styles nor keys nor the address of the
 * notebook and the page meet; the cell outside hands it a port, and relays between that port and the kernel.
 */
import type { Curve, Doc, RawEvents, SectionName, Update } from '../model/types'
import type { Connection, Source } from './source'
import { unpack } from './unpack'

/** What comes from the kernel. `buffer` is a packed document, gzipped. */
export type FromKernel =
    | { type: 'snapshot'; buffer: ArrayBuffer }
    | { type: 'update'; after: number; update: Update; buffer?: ArrayBuffer }
    | { type: 'answer'; id: string; buffer?: ArrayBuffer; error?: string }
    | { type: 'beat' }
export type ToKernel =
    | { type: 'hello'; after: number }
    | { type: 'ask'; id: string; path: string; query: Record<string, string | number | null> }

export const BEAT_SECONDS = 10
const SILENT = 2.5 * BEAT_SECONDS * 1000 // without a beat for this long, nobody is there
const AGAIN = 3_000 // between two requests for what was missed

async function gunzip(buffer: ArrayBuffer): Promise<ArrayBuffer> {
    const stream = new Blob([buffer]).stream().pipeThrough(new DecompressionStream('gzip'))
    return new Response(stream).arrayBuffer()
}

export class NotebookSource implements Source {
    readonly kind = 'notebook'
    private whole: Promise<Partial<Doc>>
    private arrived: (doc: Partial<Doc>) => void = () => undefined
    private fresh: Partial<Doc> = {} // sections that came with updates and were not fetched yet
    private seq = -1
    private waiting = new Map<string, { done: (value: unknown) => void; failed: (reason: Error) => void }>()
    private asked = 0
    private heard = performance.now()
    private hello = -Infinity
    private told: ((update: Update) => void) | undefined
    private connected: ((connection: Connection) => void) | undefined
    private turn: Promise<void> = Promise.resolve() // messages are taken in in order, though inflating takes time

    /** `name` tells this page from others that show the same widget: all of them hear every answer. */
    constructor(
        private readonly port: MessagePort,
        private readonly name: string,
    ) {
        this.whole = new Promise((resolve) => (this.arrived = resolve))
        port.onmessage = ({ data }: MessageEvent<FromKernel>) => {
            this.turn = this.turn.then(() => this.take(data)).catch((error: unknown) => console.error(error))
        }
    }

    async document(sections?: SectionName[]): Promise<Partial<Doc>> {
        if (!sections) {
            this.fresh = {}
            return this.whole
        }
        if (sections.every((name) => name in this.fresh)) {
            const found = Object.fromEntries(sections.map((name) => [name, this.fresh[name]])) as Partial<Doc>
            for (const name of sections) delete this.fresh[name]
            return this.fresh.meta ? { meta: this.fresh.meta, ...found } : found
        }
        return (await this.ask('document', { sections: sections.join(',') })) as Partial<Doc>
    }

    curve(name: string, first: number, last: number, most: number): Promise<Curve> {
        return this.ask('curve', { name, first, last, most }) as Promise<Curve>
    }

    events(before: number | null, kind: string, most: number): Promise<RawEvents> {
        return this.ask('events', { before, kind, most }) as Promise<RawEvents>
    }

    follow(after: number, update: (u: Update) => void, connection: (c: Connection) => void): () => void {
        this.seq = after
        this.told = update
        this.connected = connection
        this.greet(true)
        const timer = setInterval(() => {
            if (performance.now() - this.heard < SILENT) return
            this.connected?.('lost')
            this.greet() // the kernel may be back, or its thread may only wait to be asked
        }, 1000)
        return () => {
            clearInterval(timer)
            this.told = this.connected = undefined
        }
    }

    private greet(now = false): void {
        if (!now && performance.now() - this.hello < AGAIN) return
        this.hello = performance.now()
        this.send({ type: 'hello', after: this.seq })
    }

    private ask(path: string, query: Record<string, string | number | null>): Promise<unknown> {
        const id = `${this.name}:${++this.asked}`
        return new Promise((done, failed) => {
            this.waiting.set(id, { done, failed })
            this.send({ type: 'ask', id, path, query })
        })
    }

    private send(message: ToKernel): void {
        this.port.postMessage(message)
    }

    private async take(message: FromKernel): Promise<void> {
        this.heard = performance.now()
        if (this.told) this.connected?.('live')
        if (message.type === 'snapshot') await this.takeSnapshot(message.buffer)
        else if (message.type === 'update') await this.takeUpdate(message)
        else if (message.type === 'answer') await this.takeAnswer(message)
    }

    private async takeSnapshot(buffer: ArrayBuffer): Promise<void> {
        const doc = unpack(await gunzip(buffer)) as Doc
        if (doc.meta.seq === this.seq) return // the one that is shown, sent again
        this.fresh = {}
        this.whole = Promise.resolve(doc)
        this.arrived(doc)
        if (!this.told) return
        this.seq = doc.meta.seq
        this.told(resetTo(doc))
    }

    private async takeUpdate(message: {
        after: number
        update: Update
        buffer?: ArrayBuffer
    }): Promise<void> {
        const sections = message.buffer ? (unpack(await gunzip(message.buffer)) as Partial<Doc>) : {}
        if (!this.told || message.update.seq < this.seq) return
        if (message.after !== this.seq) return this.greet() // something was missed: a snapshot will follow
        this.seq = message.update.seq
        Object.assign(this.fresh, sections)
        this.told(message.update)
    }

    private async takeAnswer(message: { id: string; buffer?: ArrayBuffer; error?: string }): Promise<void> {
        const asked = this.waiting.get(message.id)
        if (!asked) return // another page's
        this.waiting.delete(message.id)
        if (message.buffer) asked.done(unpack(await gunzip(message.buffer)))
        else asked.failed(new Error(message.error ?? 'the kernel gave no answer'))
    }
}

/** A snapshot as news: everything has to be fetched again. */
function resetTo(doc: Doc): Update {
    const { overview, meta, timeline } = doc
    return {
        seq: meta.seq,
        time: meta.written,
        state: overview.state,
        points: {},
        changed: [],
        progress: {
            phase: overview.phase,
            cycle: overview.cycle,
            step: timeline.last,
            run_fraction: overview.run_fraction,
            seconds_left: overview.seconds_left,
            last_event: overview.last_event,
        },
        reset: true,
    }
}

/** The source of a page in a cell: the cell hands over a port once it hears that the page is there. */
export function fromCell(): Promise<NotebookSource> {
    return new Promise((resolve) => {
        addEventListener('message', function handed({ source, data, ports }: MessageEvent) {
            if (source !== parent || data?.type !== 'npd-port' || !ports[0]) return
            removeEventListener('message', handed)
            resolve(new NotebookSource(ports[0], String(data.name)))
        })
        parent.postMessage('npd-ready', '*')
    })
}
