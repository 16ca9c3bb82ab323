/** When to stop: every cycle's verdict against the allowed increase, as a chart, a table and in words. */
import { CYCLE } from '../charts/axes'
import type { LineSpec } from '../charts/spec'
import { change, percent, perplexity, plural, signed } from './format'
import { MODELS } from './palette'
import type { Column } from './table'
import type { Cycles, Judgement } from './types'

const increase = (log: number): number => Math.expm1(log)

/** How far each cycle's perplexity is above the control's, with its interval, against what is allowed. */
export function judgedSpec({ judged, returned }: Cycles): LineSpec {
    const column = (of: (one: Judgement) => number) => Float64Array.from(judged, of)
    const budget = judged.at(-1)?.budget ?? 0
    const cycles = judged.map((one) => one.cycle)
    return {
        title: 'Perplexity above the control’s',
        unit: 'validation text',
        lines: [
            {
                name: 'judged',
                label: 'increase, 95 % interval',
                colour: MODELS.pruned!,
                steps: column((one) => one.cycle),
                values: column((one) => increase(one.log_ratio)),
                low: column((one) => increase(one.log_ratio_low)),
                high: column((one) => increase(one.log_ratio_high)),
                points: true,
            },
        ],
        references: [{ value: increase(budget), label: `allowed: ${change(increase(budget))}` }],
        uprights: returned?.to_cycle
            ? [{ at: returned.to_cycle, label: `returned to cycle ${returned.to_cycle}` }]
            : [],
        domain: [Math.min(...cycles, 1) - 0.5, Math.max(...cycles, 1) + 0.5],
        own: CYCLE,
        percent: true,
        height: 220,
        note: 'the whole interval has to stay below the allowed increase',
    }
}

const kept = (cycle: number): string => (cycle ? `the state after cycle ${cycle}` : 'the unpruned model')

/** What was decided, in one or two sentences. */
export function judgedHeadline({ judged, returned }: Cycles): string {
    const last = judged.at(-1)
    if (!last) return ''
    const allowed = percent(increase(last.budget), 1)
    const upper = increase(last.log_ratio_high)
    const far = `${percent(Math.abs(upper), 1)} ${upper < 0 ? 'below' : 'above'} the control’s`
    const verdict = last.inside
        ? `Cycle ${last.cycle} is inside the allowed ${allowed}: its perplexity is at most ${far}.`
        : `Cycle ${last.cycle} is not shown to be inside the allowed ${allowed}: its perplexity may be ${far}.`
    if (!returned) return verdict
    const there = judged.find((one) => one.cycle === returned.to_cycle)
    const sparsity = there ? `, ${percent(there.sparsity, 1)} of the heads removed` : ''
    return `${verdict} The run returned to ${kept(returned.to_cycle)}${sparsity}.`
}

/** What the intervals rest on. */
export function judgedOn(judged: Judgement[]): string {
    const last = judged.at(-1)
    if (!last) return ''
    const from = last.documents
        ? ` from ${plural(last.documents, 'document')}, which were resampled as wholes`
        : ', which were resampled'
    return `Paired bootstrap over ${plural(last.sequences, 'validation sequence')}${from}; the control is the unpruned model trained as long.`
}

export const judgedColumns: Column<Judgement>[] = [
    { key: 'cycle', label: 'Cycle', value: (one) => one.cycle, text: (one) => `Cycle ${one.cycle}` },
    {
        key: 'sparsity',
        label: 'Sparsity',
        number: true,
        value: (one) => one.sparsity,
        text: (one) => percent(one.sparsity, 1),
    },
    {
        key: 'increase',
        label: 'Increase',
        title: 'Perplexity above the control’s, with its 95 % interval',
        number: true,
        value: (one) => increase(one.log_ratio),
        text: (one) => change(increase(one.log_ratio)),
        note: (one) => `${change(increase(one.log_ratio_low))} to ${change(increase(one.log_ratio_high))}`,
        more: [
            ['Increase, low', (one) => increase(one.log_ratio_low)],
            ['Increase, high', (one) => increase(one.log_ratio_high)],
        ],
    },
    {
        key: 'log',
        label: 'ln ratio',
        title: 'ln(perplexity / the control’s): the mean difference of loss',
        number: true,
        value: (one) => one.log_ratio,
        text: (one) => signed(one.log_ratio, 4),
        note: (one) => `allowed ${signed(one.budget, 4)}`,
        more: [
            ['ln ratio, low', (one) => one.log_ratio_low],
            ['ln ratio, high', (one) => one.log_ratio_high],
            ['ln ratio, allowed', (one) => one.budget],
        ],
    },
    {
        key: 'verdict',
        label: 'Verdict',
        value: (one) => one.inside,
        text: (one) => (one.inside ? '✓ inside' : '✗ outside'),
    },
    {
        key: 'perplexity',
        label: 'Perplexity',
        number: true,
        value: (one) => one.perplexity,
        text: (one) => perplexity(one.perplexity),
        note: (one) => `control ${perplexity(one.control_perplexity)}`,
        more: [['Control’s perplexity', (one) => one.control_perplexity]],
    },
]
