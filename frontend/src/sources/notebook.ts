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
    | { type: 'reset' } // what was shown is no longer so; a snapshot follows
    | { type: 'update'; after: number; update: Update; buffer?: ArrayBuffer }
    | { type: 'answer'; id: string; buffer?: ArrayBuffer; error?: string }
    | { type: 'beat' }
export type ToKernel =
    | { type: 'hello'; after: number }
    | { type: 'ask'; id: string; path: string; query: Record<string, string | number | null> }

export const BEAT_SECONDS = 10
const SILENT = 2.5 * BEAT_SECONDS * 1000 // without a beat for this long, nobody is there
const AGAIN = 3_000 // between two requests for what was missed
const PATIENCE = 8_000 // a kernel that runs a cell answers nothing until it is done
const HELD = 60_000 // news wait at most this long until the page has taken the curves that came before

async function gunzip(buffer: ArrayBuffer): Promise<ArrayBuffer> {
    const stream = new Blob([buffer]).stream().pipeThrough(new DecompressionStream('gzip'))
    return new Response(stream).arrayBuffer()
}

export class NotebookSource implements Source {
    readonly kind = 'notebook'
    private whole: Promise<Partial<Doc>>
    private arrived: (doc: Partial<Doc>) => void = () => undefined
    private fresh: Partial<Doc> = {} // sections that came with updates and were not fetched yet
    private curvesTaken: () => void = () => undefined
    private seq = -1
    private waiting = new Map<string, { done: (value: unknown) => void; failed: (reason: Error) => void }>()
    private asked = 0
    private heard = performance.now()
    private hello = -Infinity
    private missed = false // a snapshot is wanted
    private told: ((update: Update) => void) | undefined
    private connected: ((connection: Connection) => void) | undefined
    private turn: Promise<void> = Promise.resolve() // messages are taken in in order, though inflating takes time

    /** `name` tells this page from others that show the same widget: all of them hear every answer. */
    constructor(
        private readonly port: MessagePort,
        private readonly name: string,
        /** Whether the notebook is dark, where it says so. */
        readonly dark?: boolean,
    ) {
        this.whole = new Promise((resolve) => (this.arrived = resolve))
        port.onmessage = ({ data }: MessageEvent<FromKernel>) => {
            this.heard = performance.now()
            if (this.told) this.connected?.('live')
            if (data.type === 'answer') void this.takeAnswer(data)
            else
                this.turn = this.turn
                    .then(() => this.take(data))
                    .catch((error: unknown) => console.error(error))
        }
    }

    async document(sections?: SectionName[]): Promise<Partial<Doc>> {
        if (!sections) {
            this.taken(Object.keys(this.fresh) as SectionName[])
            return this.whole
        }
        const found = this.fresh
        if (!sections.every((name) => name in found))
            return (await this.ask('document', { sections: sections.join(',') })) as Partial<Doc>
        this.taken(sections)
        return Object.fromEntries(sections.map((name) => [name, found[name]])) as Partial<Doc>
    }

    private taken(names: SectionName[]): void {
        const left = { ...this.fresh }
        for (const name of names) if (name !== 'meta') delete left[name]
        this.fresh = left
        if (!left.curves) this.curvesTaken()
    }

    /** Hands over news. Curves hold all points up to their moment: what follows waits until the page has them. */
    private async tell(update: Update, sections: Partial<Doc>): Promise<void> {
        this.fresh = { ...this.fresh, ...sections }
        const taken = new Promise<void>((done) => (this.curvesTaken = done))
        this.told?.(update)
        if (sections.curves) await Promise.race([taken, new Promise((done) => setTimeout(done, HELD))])
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
        this.missed = true
        this.send({ type: 'hello', after: this.seq })
    }

    private ask(path: string, query: Record<string, string | number | null>): Promise<unknown> {
        const id = `${this.name}:${++this.asked}`
        return new Promise((done, failed) => {
            const late = setTimeout(() => {
                this.waiting.delete(id)
                failed(new Error('the kernel is busy: it answers when its cell has finished'))
            }, PATIENCE)
            const settle = (how: () => void) => {
                clearTimeout(late)
                how()
            }
            this.waiting.set(id, {
                done: (value) => settle(() => done(value)),
                failed: (reason) => settle(() => failed(reason)),
            })
            this.send({ type: 'ask', id, path, query })
        })
    }

    private send(message: ToKernel): void {
        this.port.postMessage(message)
    }

    private async take(message: FromKernel): Promise<void> {
        if (message.type === 'snapshot') await this.takeSnapshot(message.buffer)
        else if (message.type === 'update') await this.takeUpdate(message)
        else if (message.type === 'reset') {
            this.missed = true
            this.seq = -1
        }
    }

    private async takeSnapshot(buffer: ArrayBuffer): Promise<void> {
        const doc = unpack(await gunzip(buffer)) as Doc
        if (this.told && (!this.missed || doc.meta.seq <= this.seq)) return // for another page, or known
        this.whole = Promise.resolve(doc)
        this.arrived(doc)
        if (!this.told) return
        this.seq = doc.meta.seq
        this.missed = false
        await this.tell(resetTo(doc), doc)
    }

    private async takeUpdate(message: {
        after: number
        update: Update
        buffer?: ArrayBuffer
    }): Promise<void> {
        const sections = message.buffer ? (unpack(await gunzip(message.buffer)) as Partial<Doc>) : {}
        if (!this.told || (message.update.seq <= this.seq && message.after !== this.seq)) return // known
        if (message.after !== this.seq) return this.greet() // something was missed: a snapshot will follow
        this.missed = false
        this.seq = message.update.seq
        await this.tell(message.update, sections)
    }

    private async takeAnswer(message: { id: string; buffer?: ArrayBuffer; error?: string }): Promise<void> {
        const asked = this.waiting.get(message.id)
        if (!asked) return // another page's
        this.waiting.delete(message.id)
        try {
            if (!message.buffer) throw new Error(message.error ?? 'the kernel gave no answer')
            asked.done(unpack(await gunzip(message.buffer)))
        } catch (problem) {
            asked.failed(problem instanceof Error ? problem : new Error(String(problem)))
        }
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
            resolve(new NotebookSource(ports[0], String(data.name), data.dark))
        })
        parent.postMessage('npd-ready', '*')
    })
}
