/** Sections that tell how a model changes over its cycles, field by field as the Python view models have them. */
import type { Bytes, Floats, Integers, Packed } from './types'

export interface Measured {
    value: number
    low: number | null
    high: number | null
}
export interface Cycle {
    cycle: number
    strategy: string
    level: number | null
    pruned: number
    grown: number
    heads_left: number
    sparsity: number
    loss_before: number | null
    loss_pruned: number | null
    loss_after: number | null
    training: {
        steps: number
        seconds: number
        best_loss: number | null
        best_step: number | null
        tokens_per_second: number | null
        learning_rate: number | null
        loss_per_100_steps: number | null
        steps_to_90?: number | null
        learning_rate_mean: number | null
        gradient_norm: number | null // before clipping: the median
        gradient_norm_max: number | null
        drop_per_step: number | null // validation loss won back per step
        area: number | null // nats x steps of validation loss above what it was before pruning
        steps_to_half: number | null
    } | null
    perplexity: Measured | null
    control_perplexity: Measured | null
    impact: Measured | null
    impact_on_control: Measured | null
    seconds: number
}
export interface Cycles {
    cycles: Cycle[]
    baseline: Measured | null
    pruned_in: Integers
    states: Packed<Int8Array>
    recoveries: CycleRecovery[]
    cumulative: Cumulative[]
    judged: Judgement[]
    returned: Returned | null
    knee: number | null // cycle at the bend of perplexity over sparsity
    empty: string | null
}
/** One cycle held against the allowed increase of perplexity over the control's, on validation text. */
export interface Judgement {
    step: number
    cycle: number
    log_ratio: number
    log_ratio_low: number
    log_ratio_high: number
    budget: number // ln(1 + allowed increase)
    inside: boolean
    sparsity: number
    perplexity: number
    control_perplexity: number
    sequences: number
    documents: number // that the sequences come from, and that were resampled; 0: sequences were
    reason: string
}
export interface Returned {
    step: number
    cycle: number
    to_cycle: number // 0: before any pruning
    to_step: number
    reason: string
}
/** One cycle's training after its pruning, by steps since it. */
export interface CycleRecovery {
    cycle: number
    steps: Integers
    loss: Floats // running mean of the training loss
    validation_steps: Integers
    validation: Floats // the first point right after the pruning
    before: number | null // validation loss right before it
    excess_steps: Integers
    excess: Floats // running mean of training loss minus the control's on the same batches
}
/** Where the model stood after a cycle (0: the baseline). */
export interface Cumulative {
    cycle: number
    heads_left: number
    sparsity: number
    perplexity: Measured | null
    control_perplexity: Measured | null
    ratio_to_baseline: Measured | null
    ratio_to_control: Measured | null
    parameter_reduction: number | null
    size_reduction: number | null
    prefill_speedup: Measured | null
    decode_speedup: Measured | null
}
export interface AttentionTake {
    step: number
    cycle: number
    phase: string
    model: string
    heads: Integers // (k, 2)
    maps: Bytes // (k, T, T): 0 to 254 for 0 to 1, 255 where there is no pattern
    error: number // largest difference that the packing made
    drift?: Floats // (k) Jensen-Shannon divergence in bits to the prompt's first take that has the head; NaN: no pattern
    first_token_mass: Floats // (k) as all below; NaN: no pattern
    previous_token: Floats
    induction: Floats // on repeated random tokens
}
/** Mean over the prompts, in bits, (moments, layers, heads); NaN: no pattern. */
export interface AttentionDrift {
    model: string
    steps: Integers
    cycles: Integers
    to_baseline: Floats
    to_previous: Floats
    prompts: number
}
export interface AttentionMover {
    layer: number
    head: number
    drift: number
    in_control: number | null
    step: number
    cycle: number
}
export interface AttentionEvolution {
    prompts: { prompt: string; tokens: string[]; takes: AttentionTake[] }[]
    drift: AttentionDrift[] // the run's model, then the control
    movers: AttentionMover[]
    thinned: string | null
    empty: string | null
}
/** One head that came; `gain` is how far the loss fell when it was switched on, figures null where none were recorded. */
export interface GrowthReturn {
    step: number
    cycle: number
    origin: 'regrown' | 'added'
    layer: number
    head: number
    name: string // L3H7#2 in its second life
    incarnation: number
    strategy: string
    reason: string
    score: number | null // benefit
    low: number | null
    high: number | null
    gain: number | null
    gain_low: number | null
    gain_high: number | null
    loss_before: number | null
    loss_after: number | null
    pruned_step: number | null
    pruned_again_step: number | null
    cycles: number // that it has been there
}
/** One head that was considered and stays out. */
export interface GrowthRefused {
    step: number
    cycle: number
    layer: number
    head: number
    name: string
    reason: string
    score: number | null
    low: number | null
    high: number | null
    gain: number | null
    gain_low: number | null
    gain_high: number | null
}
/** One cycle's moves, and what its growth decision weighed; null and empty where there was none. */
export interface GrowthRound {
    cycle: number
    step: number
    pruned: number
    gone_again: number // of these, heads that had come before
    regrown: number
    added: number
    active: number // afterwards
    churn: number // all moves as a share of the heads that there are
    considered: number
    tried: number | null
    allowed: number | null
    worth: number | null // of the weakest active heads
    rule: string
}
/** Heads that came at least `cycles` cycles before the end, and how many of them are still there that much later. */
export interface GrowthSurvival {
    origin: string
    cycles: Integers
    at_risk: Integers
    alive: Integers
}
/** One life at each later measurement, against heads that never went. */
export interface GrowthStanding {
    layer: number
    head: number
    name: string
    origin: string
    came_step: number
    steps: Integers
    since: Integers // cycles
    ratio: Floats // to the median survivor's importance
    rank: Floats // among the active heads, 0 least to 1 most
}
export interface GrowthTypical {
    since: Integers
    heads: Integers
    ratio: Floats
    rank: Floats
}
export interface Growth {
    returns: GrowthReturn[]
    refused: GrowthRefused[] // the latest ones
    refused_total: number
    rounds: GrowthRound[]
    survival: GrowthSurvival[]
    criterion: string // by which they are held against the survivors
    standings: GrowthStanding[]
    typical: GrowthTypical | null
    lasting: number // returns that are active at the end
    empty: string | null
}

/** How far a model's space is from the baseline's, (moments, layers); NaN: not recorded. */
export interface SpaceDrift {
    model: string
    procrustes_residual: Floats // 0 the same up to rotation and scale
    neighbour_overlap: Floats // share of nearest neighbours kept
    linear_cka: Floats // debiased, 1 the same
}
export interface PointMover {
    layer: number // place in the space's layers
    point: number
    moved: number // from its baseline place, in units of the baseline points' spread
    moved_in_control: number | null
}
export interface Space {
    name: string
    layers: string[]
    steps: Integers
    cycles: Integers
    models: string[] // at each moment
    drift: SpaceDrift[]
    neighbours: number
    chance_overlap: number
    chance_residual: Floats // (layers)
    dimensions: number
    labels: string[]
    groups: Integers // place in group_names, -1 for none
    group_names: string[]
    coordinates: Floats // (moments, layers, points, 2): in the plane of each layer's own baseline; NaN: not recorded
    explained_variance: Floats // (layers, 2)
    movers: PointMover[]
    total: number // points recorded
}
export interface Embeddings {
    spaces: Space[]
    thinned: string | null
    empty: string | null
}
