/** Charts across cycles: perplexity, impact, what every head removed cost, and how the fine-tunings compare. */
import { CYCLE, HEADS_REMOVED, STEPS_SINCE_PRUNING } from '../charts/axes'
import type { Line, LineSpec, Upright } from '../charts/spec'
import { acrossCycles } from './cycles'
import { MODELS } from './palette'
import { cycleColour, DASHES } from './recovery'
import type { Cumulative, Cycle, CycleRecovery, Cycles, Measured } from './types'

const exact = (value: number | null): Measured | null =>
    value === null ? null : { value, low: null, high: null }

const HEIGHT = 200
export function across(
    cycles: Cycle[],
    title: string,
    unit: string,
    lines: (Line | null)[],
    reference?: [number, string],
): LineSpec {
    return {
        title,
        unit,
        lines: lines.filter((one) => one !== null),
        references: reference ? [{ value: reference[0], label: reference[1] }] : [],
        domain: [Math.min(cycles[0]?.cycle ?? 1, 1) - 0.5, (cycles.at(-1)?.cycle ?? 1) + 0.5],
        own: CYCLE,
        height: HEIGHT,
    }
}

/** Perplexity, cumulative impact, the trade and validation loss; charts without a point are left out. */
export function cycleCharts(view: Cycles): LineSpec[] {
    const { cycles, baseline } = view
    const pruned = MODELS.pruned!
    const control = acrossCycles(cycles, 'control', MODELS.control!, (one) => one.control_perplexity)
    const first = cycles.find((one) => one.loss_before !== null)?.loss_before
    return [
        across(
            cycles,
            'Perplexity',
            'test text',
            [
                acrossCycles(cycles, 'pruned', pruned, (one) => one.perplexity),
                control && { ...control, dash: 'dashed' as const },
            ],
            baseline ? [baseline.value, 'baseline'] : undefined,
        ),
        across(
            cycles,
            'Cumulative impact',
            'test loss, nats per token',
            [
                acrossCycles(cycles, 'against baseline', pruned, (one) => one.impact),
                acrossCycles(cycles, 'against control', MODELS.control!, (one) => one.impact_on_control),
            ],
            [0, 'no change'],
        ),
        tradeSpec(view),
        across(
            cycles,
            'Validation loss',
            'nats per token',
            [
                acrossCycles(cycles, 'before pruning', MODELS.baseline!, (one) => exact(one.loss_before)),
                acrossCycles(cycles, 'right after pruning', MODELS.control!, (one) => exact(one.loss_pruned)),
                acrossCycles(cycles, 'after fine-tuning', pruned, (one) => exact(one.loss_after)),
            ],
            first !== undefined && first !== null ? [first, 'baseline'] : undefined,
        ),
        excessSpec(view.recoveries),
    ].filter((spec) => spec.lines.length)
}

/** What every share of the heads removed cost: perplexity by sparsity, from the baseline on. */
export function tradeSpec({ cumulative, knee }: Cycles): LineSpec {
    const known = cumulative
        .filter((one) => one.perplexity)
        .sort((a, b) => a.sparsity - b.sparsity || a.cycle - b.cycle)
    const sparsity = (one: Cumulative) => 100 * one.sparsity
    const along = (label: string, colour: string, of: (one: Cumulative) => Measured | null): Line | null => {
        const found = known.flatMap((one) => {
            const value = of(one)
            return value ? [{ at: sparsity(one), value }] : []
        })
        if (found.length < 2) return null
        return {
            name: label,
            label,
            colour,
            steps: Float64Array.from(found, ({ at }) => at),
            values: Float64Array.from(found, ({ value }) => value.value),
            low: Float64Array.from(found, ({ value }) => value.low ?? NaN),
            high: Float64Array.from(found, ({ value }) => value.high ?? NaN),
            points: true,
        }
    }
    const control = along('control at that time', MODELS.control!, (one) =>
        one.cycle ? one.control_perplexity : one.perplexity,
    )
    const bend = cumulative.find((one) => one.cycle === knee)
    const uprights: Upright[] = bend ? [{ at: sparsity(bend), label: `knee: cycle ${bend.cycle}` }] : []
    const last = known.at(-1)
    return {
        title: 'Perplexity by heads removed',
        unit: 'test text',
        lines: [
            along('pruned', MODELS.pruned!, (one) => one.perplexity),
            control && { ...control, dash: 'dashed' as const },
        ].filter((one) => one !== null),
        uprights,
        domain: [sparsity(known[0] ?? EMPTY) - 2, (last ? sparsity(last) : 0) + 2],
        own: HEADS_REMOVED,
        height: HEIGHT,
    }
}
const EMPTY = { sparsity: 0 } as Cumulative

/** All fine-tunings from the same start: training loss above the control's on the same batches. */
export function excessSpec(recoveries: CycleRecovery[], most = 12): LineSpec {
    const all = recoveries.filter((one) => one.excess.data.length > 1)
    const shown = all.length <= most ? all : [...all.slice(0, most - 1), all.at(-1)!]
    const left = all.length - shown.length
    return {
        title: `Training loss above the control’s${left ? `, ${left} cycles left out` : ''}`,
        unit: 'nats per token, running mean',
        lines: shown.map((one, at) => ({
            name: `excess ${one.cycle}`,
            label: `cycle ${one.cycle}`,
            steps: one.excess_steps.data,
            values: one.excess.data,
            colour: cycleColour(at, shown.length),
            ...(DASHES[at % DASHES.length] ? { dash: DASHES[at % DASHES.length]! } : {}),
        })),
        references: [{ value: 0, label: 'as the control' }],
        domain: [0, Math.max(1, ...shown.map((one) => one.excess_steps.data.at(-1) ?? 1))],
        own: STEPS_SINCE_PRUNING,
        height: HEIGHT,
    }
}
