/** Cycles as a table and as charts across cycles. */
import type { Line } from '../charts/spec'
import { percent, perplexity, plain, signed } from './format'
import { interval, measured, recoveredShare, signedInterval } from './story'
import type { Column } from './table'
import type { Cycle, Cycles, Measured } from './types'

const ends = (label: string, of: (one: Cycle) => Measured | null): Column<Cycle>['more'] => [
    [`${label}, low`, (one) => of(one)?.low],
    [`${label}, high`, (one) => of(one)?.high],
]
const figure = (
    key: string,
    label: string,
    of: (one: Cycle) => Measured | null,
    kind: 'perplexity' | 'difference',
    title: string,
    name = label,
): Column<Cycle> => ({
    key,
    label,
    title,
    name,
    number: true,
    value: (one) => of(one)?.value,
    text: (one) => measured(of(one), kind === 'perplexity' ? perplexity : signed),
    note: (one) => (kind === 'perplexity' ? interval(of(one), perplexity) : signedInterval(of(one))),
    more: ends(name, of),
})
export const number = (
    key: string,
    label: string,
    value: (one: Cycle) => number | null | undefined,
    write: (value: number | null | undefined) => string,
    title?: string,
    name?: string,
): Column<Cycle> => ({
    key,
    label,
    number: true,
    value,
    text: (one) => write(value(one)),
    ...(title && { title }),
    ...(name && { name }),
})

export const whole = (value: number | null | undefined) => plain(value, 0)
const outcome: Column<Cycle>[] = [
    { key: 'cycle', label: 'Cycle', value: (one) => one.cycle, text: (one) => `Cycle ${one.cycle}` },
    {
        key: 'strategy',
        label: 'Strategy',
        value: (one) => one.strategy,
        note: (one) => (one.level === null ? '' : `level ${percent(one.level)}`),
        title: 'Strategy, and the share of the active heads that the cycle prunes',
        more: [['Level', (one) => one.level]],
        foreign: true,
    },
    number('pruned', 'Pruned', (one) => one.pruned, whole),
    number('grown', 'Grown', (one) => one.grown, whole, 'Heads that came back or were added'),
    number('left', 'Heads left', (one) => one.heads_left, whole),
    number(
        'sparsity',
        'Sparsity',
        (one) => one.sparsity,
        (value) => percent(value, 1),
    ),
    number('before', 'Loss before', (one) => one.loss_before, plain, 'Validation loss before pruning'),
    number(
        'after',
        'pruned',
        (one) => one.loss_pruned,
        plain,
        'Validation loss right after pruning',
        'Loss right after pruning',
    ),
    number(
        'tuned',
        'tuned',
        (one) => one.loss_after,
        plain,
        'Validation loss after fine-tuning',
        'Loss after fine-tuning',
    ),
    number(
        'recovered',
        'Recovered',
        recoveredShare,
        percent,
        'Share of what pruning cost that fine-tuning brought back',
    ),
    figure(
        'perplexity',
        'Test perplexity',
        (one) => one.perplexity,
        'perplexity',
        'On test text, with its 95 % interval',
    ),
    figure(
        'control',
        'Control’s',
        (one) => one.control_perplexity,
        'perplexity',
        'Test perplexity of the unpruned model trained as long',
        'Control’s test perplexity',
    ),
    figure(
        'impact',
        'Loss − baseline’s',
        (one) => one.impact,
        'difference',
        'Test loss against the baseline, paired, 95 % interval',
        'Test loss against baseline',
    ),
    figure(
        'to_control',
        '− control’s',
        (one) => one.impact_on_control,
        'difference',
        'Test loss against the control, paired, 95 % interval',
        'Test loss against control',
    ),
]

/** The columns in which some cycle has a figure; the cycle itself is always there. */
export const filled = (columns: Column<Cycle>[], cycles: Cycle[]): Column<Cycle>[] =>
    columns.filter(
        ({ key, value }) =>
            key === 'cycle' ||
            cycles.some((one) => {
                const found = value(one)
                return (
                    found !== null && found !== undefined && found !== '' && !(key === 'grown' && found === 0)
                )
            }),
    )
/** What went, what it cost, what came back. */
export const cycleColumns = (cycles: Cycle[]): Column<Cycle>[] => filled(outcome, cycles)

export function acrossCycles<One extends { cycle: number }>(
    cycles: One[],
    label: string,
    colour: string,
    of: (one: One) => Measured | null,
): Line | null {
    const found = cycles.flatMap((one) => {
        const value = of(one)
        return value ? [{ cycle: one.cycle, value }] : []
    })
    if (!found.length) return null
    const column = (pick: (value: Measured) => number | null) =>
        Float64Array.from(found, ({ value }) => pick(value) ?? NaN)
    return {
        name: label,
        label,
        colour,
        steps: Int32Array.from(found, ({ cycle }) => cycle),
        values: column((value) => value.value),
        low: column((value) => value.low),
        high: column((value) => value.high),
        points: true,
    }
}

export interface GridCell {
    layer: number
    head: number
    /** Cycle in which the head was last pruned; 0 for never. */
    cycle: number
    back: boolean
}
/** The heads that some cycle took. */
export function prunedCells(view: Cycles): GridCell[] {
    const [layers = 0, heads = 0] = view.pruned_in.shape
    const found: GridCell[] = []
    for (let layer = 0; layer < layers; layer++)
        for (let head = 0; head < heads; head++) {
            const at = layer * heads + head
            const cycle = view.pruned_in.data[at]!
            if (cycle > 0) found.push({ layer, head, cycle, back: (view.states.data[at] ?? 0) > 0 })
        }
    return found
}
