/** What the pruning panel says of a decision. */
import { signed, significant, whole } from '../model/format'
import { headName } from '../model/heads'
import type { HeadDecision, Heads, PruningDecision } from '../model/types'

/** Whether more can still come: what is missing then is only not here yet. */
export const running = (model: { doc: { overview?: { state: string } } }): boolean =>
    ['running', 'stale'].includes(model.doc.overview?.state ?? 'running')

export interface LayerRow {
    layer: number
    before: number
    after: number
    gone: number[]
    /** State of each head after the decision: 1 stays, 0 was gone before, 2 goes now, −1 does not exist. */
    cells: number[]
}
export const STAYS = 1
export const GONE_BEFORE = 0
export const GOES = 2
export const MISSING_HEAD = -1

export function layerRows(one: PruningDecision): LayerRow[] {
    const [layers = 0, heads = 0] = one.states.shape
    return Array.from({ length: layers }, (_, layer) => {
        const cells = Array.from({ length: heads }, (_, head) => {
            const at = layer * heads + head
            const state = one.states.data[at]!
            return state < 0 ? MISSING_HEAD : one.chosen.data[at] ? GOES : state > 0 ? STAYS : GONE_BEFORE
        })
        const gone = cells.flatMap((cell, head) => (cell === GOES ? [head] : []))
        const after = cells.filter((cell) => cell === STAYS).length
        return { layer, before: after + gone.length, after, gone, cells }
    })
}

export const chosenCount = (one: PruningDecision): number =>
    one.chosen.data.reduce((sum, bit) => sum + bit, 0)
export const activeBefore = (one: PruningDecision): number =>
    one.states.data.reduce((sum: number, state) => sum + (state > 0 ? 1 : 0), 0)

/** The same decision in the head history, which holds its rule, seed and reasons. */
export function told(heads: Heads | undefined, one: PruningDecision, index: number): HeadDecision | null {
    const prunings = heads?.decisions.filter((each) => each.kind === 'pruned') ?? []
    const same = prunings[index]
    return same?.step === one.step ? same : (prunings.find((each) => each.step === one.step) ?? null)
}

export function lossSentence(before: number | null, after: number | null): string {
    if (before === null && after === null) return 'The loss around this decision was not recorded.'
    if (before === null || after === null)
        return `Loss ${before === null ? 'after' : 'before'} it: ${significant(after ?? before, 4)}.`
    return `Loss ${significant(before, 4)} before, ${significant(after, 4)} right after: ${signed(after - before)} nats.`
}

export function headline(one: PruningDecision): string {
    const [count, of] = [chosenCount(one), activeBefore(one)]
    const level = one.level === null ? '' : ` at level ${significant(one.level, 2)}`
    const by = one.strategy ? ` by ${one.strategy}` : ''
    return `${whole(count)} of ${whole(of)} active ${of === 1 ? 'head' : 'heads'} pruned${by}${level}.`
}

export interface Reason {
    layer: number
    head: number
    name: string
    score: number | null
    rank: number | null
    reason: string
}
export function reasons(one: PruningDecision, history: HeadDecision | null): Reason[] {
    const heads = one.chosen.shape[1] ?? 0
    const found: Reason[] = []
    const width = history?.rank?.shape[1] ?? heads
    one.chosen.data.forEach((bit, at) => {
        if (!bit) return
        const [layer, head] = [Math.floor(at / heads), at % heads]
        const rank = history?.rank?.data[layer * width + head]
        found.push({
            layer,
            head,
            name: headName(layer, head),
            score: one.score ? (one.score.data[at] ?? null) : null,
            rank: rank === undefined || rank < 0 ? null : rank + 1,
            reason: history?.reasons[`${layer}.${head}`] ?? '',
        })
    })
    return found.sort((a, b) => (a.rank ?? Infinity) - (b.rank ?? Infinity) || 0)
}
