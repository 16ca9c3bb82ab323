/** What the page shows when it compares runs, field by field as views/comparison.py has it. */
import type { Floats, Integers, Measured, Packed, State } from './types'

export interface ComparisonDoc {
    meta: ComparisonMeta
    comparison: Comparison
}
export interface ComparisonMeta {
    written: number // unix seconds
    title: string
    schema: number
    version: string
}
export interface Comparison {
    runs: RunLine[]
    kinds: Kind[]
    notices: Notice[]
    left_out: LeftOut[]
    settings: SettingsView
    curves: RunCurves
    fronts: Point[][] // of each run
    heads: RunHeads
    overlap: Overlap
    groups: Groups
    texts: SharedTexts
}

export interface RunLine {
    name: string
    path: string
    state: State
    reason: string
    simulated: boolean
    model: string
    data: string
    shape: [number, number]
    strategy: string
    level: string
    seed: string
    cycle: number
    cycles_planned: number | null
    step: number
    seconds: number
    started: number
    pruned: number
    present: number
    baseline: Measured | null
    outcome: Point | null
    control: Measured | null
    prefill_speedup: number | null
    decode_speedup: number | null
    size_reduction: number | null
    tags: string[]
    kind: number // runs of one kind have the same model and text
    group: number // runs of one group differ in the seed alone
    address: string // of its own page, where there is one
}
export interface Point {
    cycle: number
    sparsity: number
    split: string // test or validation
    perplexity: Measured
    to_baseline: Measured | null // ratio of perplexities
    to_control: Measured | null
}
export interface Kind {
    model: string
    data: string
    shape: [number, number]
    runs: number
}
export interface Notice {
    level: string // warning or note
    text: string
}
export interface LeftOut {
    path: string
    reason: string
}

export interface SettingsView {
    differ: Difference[]
    equal: Equal[]
}
export interface Difference {
    section: string
    name: string
    values: string[] // of each run
}
export interface Equal {
    section: string
    name: string
    value: string
}

export interface RunCurves {
    metrics: Metric[]
    lines: RunLineCurve[]
    moments: Moments[] // of each run
}
export interface Metric {
    name: string
    label: string
    unit: string
    group: string
    runs: number
}
export interface RunLineCurve {
    run: number
    metric: number
    total: number
    steps: Integers
    values: Floats
    means: RunMeans | null // where points were left out
}
export interface RunMeans {
    width: number
    steps: Integers
    values: Floats
}
export interface Moments {
    steps: Integers // where each of `cycles` begins
    cycles: Integers
    changed: Integers // from here on `sparsity` of the heads are removed
    sparsity: Floats
    last: number
}

export interface RunHeads {
    criteria: Scale[]
    runs: HeadsOf[]
    thinned: string | null
}
export interface Scale {
    name: string
    label: string
    unit: string
    first: [number, number] // domain over all runs
    last: [number, number]
}
export interface HeadsOf {
    states: Packed<Int8Array> | null
    scores: RunScores[]
}
export interface RunScores {
    name: string
    first_step: number
    last_step: number
    first: Floats
    last: Floats
}

/** Every array is (runs, runs). */
export interface Overlap {
    both: Integers // −1: not compared
    jaccard: Floats
    anywhere: ChanceTable
    within: ChanceTable
    why: Integers // −1, or the number of the reason why a pair is not compared
    reasons: string[]
    empty: string | null
}
export interface ChanceTable {
    expected: Floats
    low: Integers
    high: Integers
    p: Floats
}

export interface Groups {
    settings: string[]
    rows: Group[]
    repeated: boolean
    method: string
}
export interface Group {
    values: string[]
    runs: number[]
    seeds: string[]
    counted: number
    split: string
    sparsity: Measured | null
    perplexity: Measured | null
    to_baseline: Measured | null
    to_control: Measured | null
    prefill_speedup: Measured | null
    size_reduction: Measured | null
    kind: number
}

export interface SharedTexts {
    rows: Text[]
    left_out: number
    empty: string | null
}
export interface Text {
    prompt: string
    model: string
    texts: (string | null)[] // of each run
}
