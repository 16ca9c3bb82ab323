/** The state that everything on the page hangs on: the document, one time cursor, one selected head, one panel. */
import { whenDrawn } from '../charts/schedule'
import type { Connection, Source } from '../sources/source'
import { STEPS, timeAxis, type Axis } from './clock'
import { GrowingCurve } from './growing'
import { Sections } from './sections.svelte'
import type { Curves, SectionName, Update } from './types'

export interface HeadRef {
    layer: number
    head: number
}
export type Window = [number, number]

const PUBLISH_EVERY = 200 // milliseconds: how often arriving points are drawn
const FETCH_EVERY = 500
const TELL_EVERY = 80 // milliseconds: figures that change faster cannot be read, and each change is laid out again
type Clock = Curves['clock']
const NO_CLOCK: Clock = {
    steps: { data: new Int32Array(), shape: [0] },
    seconds: { data: new Float64Array(), shape: [0] },
}
const numberOf = (value: number | string): number =>
    typeof value === 'number' ? value : value === 'inf' ? Infinity : value === '-inf' ? -Infinity : NaN

export class RunModel {
    readonly source: Source
    readonly doc = new Sections((name) => {
        if (this.wanted.has(name)) void this.refetch([])
    })
    /** Step that is looked at; null is the newest one, and follows it. */
    cursor = $state<number | null>(null)
    /** Step under the pointer, on whichever chart it is. */
    hover = $state<number | null>(null)
    selected = $state<HeadRef | null>(null)
    /** Steps that the linked charts show; null is the whole run. */
    zoom = $state.raw<Window | null>(null)
    panel = $state('lifelines')
    /** What the x axis of linked charts counts. */
    xAxis = $state<'step' | 'time'>('step')
    connection = $state<Connection>('connecting')
    error = $state<string | null>(null)
    /** Seconds that the server's clock is ahead of this one. */
    clockSkew = $state(0)
    /** Number of the newest event on the page. */
    seq = $state(0)
    drawn: ((seq: number) => void) | undefined

    private newest = $state(0)
    readonly first = $derived(this.doc.timeline?.first ?? 0)
    readonly last = $derived(Math.max(this.doc.timeline?.last ?? 0, this.newest))
    readonly step = $derived(Math.min(Math.max(this.cursor ?? this.last, this.first), this.last))
    private held = $state(false)
    private paced = $state(0)
    private pacing: ReturnType<typeof setInterval> | undefined
    /** The step that words and figures are about: `step`, at a pace that can be read while the cursor is dragged. */
    readonly told = $derived(this.held ? this.paced : this.step)
    readonly window: Window = $derived(this.zoom ?? [this.first, this.last])
    private readonly clock = $derived(this.doc.curves?.clock)
    readonly time: Axis = $derived(
        this.clock ? timeAxis(this.clock.steps.data, this.clock.seconds.data) : STEPS,
    )
    readonly axis: Axis = $derived(this.xAxis === 'time' ? this.time : STEPS)

    private stop: (() => void) | undefined
    private growing = new Map<string, GrowingCurve>()
    private curvesSeq = 0 // the curves hold every point up to this event
    private takenSeq = 0
    private resets = 0
    private wanted = new Set<SectionName>()
    private fetching = false
    private meanwhile: [Update, number][] = []
    private clockBase: Clock = NO_CLOCK
    private unpublished = false
    private drawing = false
    private publishing: ReturnType<typeof setTimeout> | undefined

    constructor(source: Source) {
        this.source = source
    }

    async open(): Promise<void> {
        try {
            await this.fetch()
            this.error = null
            this.keepInside()
            this.connection = this.source.kind === 'file' ? 'file' : 'connecting'
            this.takenSeq = this.seq
            this.stop = this.source.follow?.(
                this.seq,
                (update) => this.take(update),
                (connection) => (this.connection = connection),
            )
        } catch (problem) {
            this.error = problem instanceof Error ? problem.message : String(problem)
        }
    }

    close(): void {
        this.stop?.()
        this.hold(false)
        clearTimeout(this.publishing)
    }

    /** The cursor is being dragged, or is let go: then everything is said at once. */
    hold(on: boolean): void {
        if (on === this.held) return
        clearInterval(this.pacing)
        if (on) {
            this.paced = this.step
            this.pacing = setInterval(() => (this.paced = this.step), TELL_EVERY)
        }
        this.held = on
    }

    /** Moves the cursor; the last step is where it follows the newest one. */
    moveTo(step: number): void {
        const at = Math.round(Math.min(Math.max(step, this.first), this.last))
        this.cursor = at >= this.last ? null : at
        if (this.zoom && (at < this.zoom[0] || at > this.zoom[1])) {
            const half = (this.zoom[1] - this.zoom[0]) / 2
            this.zoomTo(at - half, at + half)
        }
    }

    /** Shows the steps from `first` to `last`, within the run; the whole of it is no zoom. */
    zoomTo(first: number, last: number): void {
        const whole = this.last - this.first
        const wide = Math.min(Math.max(last - first, Math.min(4, whole)), whole)
        if (wide >= whole * 0.9999) {
            this.zoom = null
            return
        }
        const from = Math.min(Math.max((first + last - wide) / 2, this.first), this.last - wide)
        this.zoom = [from, from + wide]
    }

    /** An address may name steps that this run does not have. */
    keepZoomInside(): void {
        if (this.zoom && this.doc.timeline) this.zoomTo(...this.zoom)
    }

    private keepInside(): void {
        this.keepZoomInside()
        const shape = this.doc.heads?.shape
        const { selected } = this
        if (selected && !(shape && selected.layer < shape[0] && selected.head < shape[1]))
            this.selected = null
    }

    private async fetch(sections?: SectionName[]): Promise<void> {
        const { resets } = this
        const fresh = await this.source.document(sections && [...new Set<SectionName>(['meta', ...sections])])
        if (resets !== this.resets) return // it tells of what was abandoned since; all is asked for again
        this.doc.set(fresh)
        this.newest = Math.max(this.newest, fresh.timeline?.last ?? 0)
        this.seq = Math.max(this.seq, fresh.meta?.seq ?? 0)
        if (fresh.curves) {
            this.growing.clear()
            this.curvesSeq = fresh.meta?.seq ?? this.seq
            this.clockBase = fresh.curves.clock
            // What came while these curves were on their way is not in them.
            for (const [update, after] of this.meanwhile.splice(0)) this.takePoints(update, after)
        }
        this.sayDrawn()
    }

    private take(update: Update): void {
        if (update.reset) {
            this.resets++
            this.newest = 0
            this.seq = this.takenSeq = update.seq
            void this.refetch()
            return
        }
        const after = this.takenSeq
        this.takenSeq = update.seq
        if (this.fetching) this.meanwhile.push([update, after])
        this.takePoints(update, after)
        for (const name of update.changed) this.wanted.add(name)
        this.seq = Math.max(this.seq, update.seq)
        this.clockSkew = update.time - Date.now() / 1000
        const { step, ...progress } = update.progress
        this.newest = Math.max(this.newest, step)
        const before = this.doc.overview
        if (before) this.doc.overview = { ...before, ...progress, state: update.state }
        this.unpublished = true
        this.publishSoon()
        if (this.wanted.size) void this.refetch([])
    }

    /** Adds the points of an update that tells what came after event `after`. */
    private takePoints({ seq, points }: Update, after: number): void {
        if (seq <= this.curvesSeq) return
        const overlaps = after < this.curvesSeq // some of its points may be in the curves already
        for (const [name, { steps, values }] of Object.entries(points)) {
            let curve = this.growing.get(name)
            if (!curve) {
                const known = this.doc.curves?.series.find((one) => one.name === name)
                if (!known) {
                    this.wanted.add('curves')
                    continue
                }
                this.growing.set(name, (curve = new GrowingCurve(known)))
            }
            const numbers = values.map(numberOf)
            const [last, value] = overlaps ? curve.end : [-Infinity, NaN]
            // What the curve has of them ends with its last point: a step may have several.
            const had = steps.findLastIndex((step, at) => step === last && Object.is(numbers[at], value))
            steps.forEach((step, at) => {
                if (at > had && step >= last) curve.push(step, numbers[at]!)
            })
        }
    }

    /** Puts what arrived into the document, several updates at once. */
    private publish(): void {
        this.publishing = undefined
        this.unpublished = false
        this.drawing = true
        const curves = this.doc.curves
        if (curves && this.growing.size)
            this.doc.curves = {
                ...curves,
                clock: extended(this.clockBase, this.newest, this.doc.overview?.last_event ?? 0),
                series: curves.series.map((one) => this.growing.get(one.name)?.view() ?? one),
            }
        this.sayDrawn()
    }

    private sayDrawn(): void {
        const { seq } = this
        whenDrawn(() => {
            this.drawn?.(seq)
            this.drawing = false
            if (this.unpublished) this.publishSoon()
        })
    }

    /** Nothing new is handed out before the last is drawn: a slow machine shows less often, never later and later. */
    private publishSoon(): void {
        if (!this.drawing) this.publishing ??= setTimeout(() => this.publish(), PUBLISH_EVERY)
    }

    /**
     * Fetches the sections that changed and that something shows (the others when something does), one request at a
     * time and at most two a second; without a list, all.
     */
    private async refetch(names?: SectionName[]): Promise<void> {
        if (!names) this.wanted = new Set(Sections.NAMES)
        if (this.fetching) return
        this.fetching = true
        try {
            for (;;) {
                const now = [...this.wanted].filter((name) => this.doc.watched(name))
                if (!now.length) return
                for (const name of now) this.wanted.delete(name)
                const next = performance.now() + FETCH_EVERY
                await this.fetch(now).catch(() => now.forEach((name) => this.wanted.add(name)))
                this.meanwhile = []
                await new Promise((done) => setTimeout(done, Math.max(next - performance.now(), 0)))
            }
        } finally {
            this.fetching = false
        }
    }
}

/** The clock with the newest step on it. */
function extended(clock: Clock, step: number, seconds: number): Clock {
    const [steps, times] = [clock.steps.data, clock.seconds.data]
    const count = steps.length
    if (count && (steps[count - 1]! >= step || times[count - 1]! > seconds)) return clock
    return {
        steps: { data: Float64Array.of(...steps, step), shape: [count + 1] },
        seconds: { data: Float64Array.of(...times, seconds), shape: [count + 1] },
    }
}
