/** What the page shows: the sections of a document, field by field as the Python view models have them. */
import type { AttentionEvolution, Cycles, Embeddings, Growth, Returned } from './types-evolution'

export type * from './types-evolution'

export interface Packed<T extends TypedArray = TypedArray> {
    data: T
    shape: number[]
}
export type TypedArray = Float64Array | Float32Array | Int32Array | Int8Array | Uint8Array
export type Floats = Packed<Float64Array | Float32Array>
export type Integers = Packed<Int32Array | Float64Array>
export type Bytes = Packed<Uint8Array>

export interface Doc {
    meta: Meta
    overview: Overview
    timeline: Timeline
    curves: Curves
    heads: Heads
    warmup: Warmup
    analysis: Analysis
    pruning: Pruning
    fine_tuning: FineTuning
    evaluation: EvaluationView
    cycles: Cycles
    attention: AttentionEvolution
    growth: Growth
    embeddings: Embeddings
    samples: AllSamples
    settings: Setting[]
    log: Log
    events: RawEvents
}
export type SectionName = keyof Doc

export interface Meta {
    seq: number
    written: number // unix seconds
    record: string
    notes: string[] // what was thinned, and how
    schema: number
    version: string
    simulated: boolean
}

export type State = 'running' | 'finished' | 'stopped' | 'failed' | 'stale'
export interface KeyFigure {
    label: string
    value: string
    note: string
}
export interface Recent {
    seq: number
    step: number
    time: number
    kind: string
    title: string
    detail: string
}
export interface Overview {
    name: string
    state: State
    sentence: string
    reason: string
    simulated: boolean
    figures: KeyFigure[]
    notes: string[]
    phase: string
    cycle: number
    cycles_planned: number | null
    started: number
    last_event: number
    run_fraction: number | null
    seconds_left: number | null
    tags: string[]
    note: string
    recent: Recent[]
}

export interface Span {
    phase: string
    cycle: number
    first_step: number
    last_step: number
    seconds?: number
    open?: boolean // still running
    started?: number // unix seconds
    reason?: string // why it ended
    summary: Record<string, unknown> // the phase's own closing figures
}
export interface Mark {
    step: number
    kind: string // pruned, regrown, added, stable
    label: string
    cycle: number
    short: string
}
export interface Timeline {
    spans: Span[]
    marks: Mark[]
    boundaries: { step: number; cycle: number }[]
    first: number
    last: number
    series: Series[]
    smooth: Series[]
}
export interface Series {
    name: string
    steps: Integers
    values: Floats
    total: number
}
export interface Curve extends Series {
    label: string
    unit: string
    group: string // curves of one group share a chart
    means?: { width: number; steps: Integers; values: Floats } | null // of every `width` points, where some are left out
}
export interface Curves {
    series: Curve[]
    clock: { steps: Integers; seconds: Floats } // unix seconds at some steps, for the time axis
    exact: boolean
    left_out?: number // metrics without a curve, beyond 400 names
}

export interface Criterion {
    name: string
    label: string
    unit: string
    low: number
    high: number
    steps: Integers // (n)
    values: Floats // (n, layers, heads)
}
export interface HeadDecision {
    seq: number
    step: number
    cycle: number
    kind: 'pruned' | 'regrown' | 'added'
    title: string
    strategy: string
    rule: string
    level: number | null
    threshold: number | null
    seed: number | null
    score_label: string
    loss_before: number | null
    loss_after: number | null
    heads: Integers // (k, 2)
    score: Floats | null
    rank: Integers | null
    protected: Bytes | null
    reasons: Record<string, string> // "layer.head" -> one line
}
export interface Heads {
    shape: [number, number]
    criteria: Criterion[]
    states: { steps: Integers; cycles: Integers; grids: Packed<Int8Array> } // grids (m, layers, heads) of HeadState
    decisions: HeadDecision[]
    restored: Returned[]
    thinned: string | null
}
export const ABSENT = -1
export const PRUNED = 0
export const ACTIVE = 1
export const REGROWN = 2
export const ADDED = 3

export interface Stable {
    step: number
    first: number
    loss: number
    slope: number
    slope_low: number
    slope_high: number
    tolerance: number
    reason: string
    phase: string
}
export interface Warmup {
    raw: Series | null
    smooth: Series | null
    validation: Series | null
    window: number
    stable: Stable[]
    first: number
    last: number
    end: string
    empty: string | null
}
export interface ScoreMap {
    name: string
    label: string
    unit: string
    values: Floats
    pruned: Bytes
}
export interface Analysis {
    rounds: { step: number; cycle: number; sequences: number; maps: ScoreMap[] }[]
    names: string[]
    left_out: number
    empty: string | null
}
export interface PruningDecision {
    step: number
    cycle: number
    strategy: string
    level: number | null
    score: Floats | null
    score_label: string
    score_unit: string
    threshold: number | null
    chosen: Bytes
    protected: Bytes
    states: Packed<Int8Array>
    loss_before: number | null
    loss_after: number | null
}
export interface Pruning {
    decisions: PruningDecision[]
    present: Integers
    now: Integers
    empty: string | null
    left_out?: number // decisions between the first and the latest
}
export interface Recovery {
    cycle: number
    first: number
    last: number
    training: Series | null
    smooth: Series | null
    validation: Series | null
    loss_before: number | null
    loss_pruned: number | null
    loss_after: number | null
    recovered: number | null
}
export interface FineTuning {
    recoveries: Recovery[]
    baseline: number | null
    empty: string | null
}
export interface Bars {
    key: string
    title: string
    unit: string
    bars: { model: string; value: number; low: number | null; high: number | null }[]
    empty: string | null
}
export interface ResultsTable {
    models: string[]
    rows: { key: string; label: string; cells: { text: string; interval: string }[]; change: string }[]
    verdicts: string[]
    sequences: number
    tokens: number
    cycle: number
}
export interface EvaluationView {
    bars: Bars[]
    table: ResultsTable
    texts: { models: string[]; rows: { prompt: string; texts: (string | null)[] }[] }
    empty: string | null
}
export interface AllSamples {
    rows: {
        step: number
        cycle: number
        phase: string
        model: string
        prompt: string
        text: string
        metrics: Record<string, number>
    }[]
    left_out?: number // early ones, when there are too many
    empty: string | null
}
export interface Setting {
    title: string
    pairs: [string, string][]
}
export interface Log {
    lines: { seq: number; step: number; time: number; level: string; message: string }[]
    total: number
}
export interface RawEvents {
    rows: {
        seq: number
        attempt: number
        time: number
        kind: string
        step: number
        phase: string
        cycle: number
        text: string
    }[]
    total: number
}

/** One line of the list of runs. */
export interface RunEntry {
    id: string
    name: string
    state: State
    phase: string
    cycle: number
    cycles_planned: number | null
    step: number
    started: number
    last_event: number
    figures: Record<string, number | null>
    tags: string[]
    simulated: boolean
    error?: string
}

/** What the live server pushes, and the poll answers. */
export interface Update {
    seq: number
    time: number
    state: State
    points: Record<string, { steps: number[]; values: (number | 'nan' | 'inf' | '-inf')[] }>
    changed: SectionName[]
    progress: {
        phase: string
        cycle: number
        step: number
        run_fraction: number | null
        seconds_left: number | null
        last_event: number
    }
    reset: boolean
}
