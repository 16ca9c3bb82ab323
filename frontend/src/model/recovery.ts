/** Recovery curves as charts: one cycle along the run's steps, or all cycles aligned at their pruning. */
import { STEPS_SINCE_PRUNING } from '../charts/axes'
import type { Line, LineSpec, Reference } from '../charts/spec'
import { percent } from './format'
import { CIVIDIS, MODELS, phaseColour } from './palette'
import { runningMean } from './smooth'
import { recoveredShare } from './story'
import { lowerBound, upperBound } from './downsample'
import type { Curves, Doc, FineTuning, Recovery, Series } from './types'

const UNIT = 'nats per token'
const known = (value: number | null): value is number => value !== null && Number.isFinite(value)
const moved = (values: ArrayLike<number>, by: number) => Float64Array.from(values, (value) => value + by)

/** Part of a recorded curve between two steps, in the same memory; null where it has no point. */
export function partOf(
    curves: Curves | undefined,
    name: string,
    first: number,
    last = Infinity,
): Series | null {
    const whole = curves?.series.find((one) => one.name === name)
    if (!whole) return null
    const { data } = whole.steps
    const [from, to] = [lowerBound(data, first), upperBound(data, last)]
    if (to <= from) return null
    return {
        name,
        steps: { data: data.subarray(from, to), shape: [to - from] },
        values: { data: whole.values.data.subarray(from, to), shape: [to - from] },
        total: Math.round((whole.total * (to - from)) / data.length),
    }
}

/**
 * Running mean of that part over a tenth of it. Where points were left out, those that are here are the extreme ones,
 * and the means that were recorded with the curve stand for them.
 */
export function meanOf(
    curves: Curves | undefined,
    name: string,
    first: number,
): { series: Series; width: number } | null {
    const whole = curves?.series.find((one) => one.name === name)
    if (!whole) return null
    if (whole.total > whole.steps.data.length) {
        if (!whole.means) return null
        const means = { ...whole, ...whole.means, total: whole.means.steps.data.length }
        const series = partOf({ ...curves!, series: [means] }, name, first)
        if (!series) return null
        const { data } = series.values
        const each = Math.round(data.length * 0.02) | 1
        const smooth = { data: runningMean(data, each), shape: [data.length] }
        return { series: { ...series, values: smooth }, width: each * whole.means.width }
    }
    const part = partOf(curves, name, first)
    const count = part?.steps.data.length ?? 0
    if (!part || count <= 8) return null
    const width = Math.max(3, Math.round(count * 0.1)) | 1
    return {
        series: { ...part, values: { data: runningMean(part.values.data, width), shape: [count] } },
        width,
    }
}

/** The recovery that is going on, with the points that arrived since its view was made. */
export function running(one: Recovery, curves: Curves | undefined, last: number): Recovery {
    const since = (part: Series | null | undefined): Series | null =>
        part ? { ...part, steps: { ...part.steps, data: moved(part.steps.data, -one.first) } } : null
    return {
        ...one,
        last: Math.max(last, one.first),
        training: since(partOf(curves, 'loss', one.first)),
        smooth: since(meanOf(curves, 'loss', one.first)?.series),
        validation: since(partOf(curves, 'validation_loss', one.first)),
    }
}

/** Every fine-tuning, the one that goes on up to now. */
export function recoveriesNow(doc: Partial<Doc>, last: number): Recovery[] {
    const recorded = doc.fine_tuning?.recoveries ?? []
    const latest = recorded.at(-1)
    const going = doc.overview?.state === 'running' && doc.overview.phase === 'fine-tuning'
    if (!going || !latest || latest.loss_after !== null) return recorded
    return [...recorded.slice(0, -1), running(latest, doc.curves, last)]
}

function line(series: Series, first: number, label: string, colour: string, more: Partial<Line> = {}): Line {
    const { values, total } = series
    return {
        name: series.name,
        label,
        steps: moved(series.steps.data, first),
        values: values.data,
        total,
        colour,
        ...more,
    }
}

/** References whose labels would lie on each other share one. */
function spread(wanted: { value: number | null; label: string }[], lines: Line[]): Reference[] {
    const found = wanted.filter((one): one is Reference => known(one.value))
    let [low, high] = [Infinity, -Infinity]
    for (const values of [found.map((one) => one.value), ...lines.map((one) => one.values)])
        for (let at = 0; at < values.length; at++) {
            const value = values[at]!
            if (!Number.isFinite(value)) continue
            low = Math.min(low, value)
            high = Math.max(high, value)
        }
    const references: Reference[] = []
    for (const one of found) {
        const near = references.find((other) => Math.abs(other.value - one.value) <= 0.09 * (high - low))
        if (near) near.label += `, ${one.label}`
        if (!near || Math.abs(near.value - one.value) > 1e-9)
            references.push({ value: one.value, label: near ? '' : one.label })
    }
    return references
}

/** One fine-tuning against the loss before its pruning and the baseline. */
export function cycleSpec(one: Recovery, baseline: number | null): LineSpec {
    const colour = phaseColour('fine-tuning')
    const lines: Line[] = []
    if (one.training)
        lines.push(line(one.training, one.first, 'training loss', colour, { faint: one.smooth !== null }))
    if (one.smooth)
        lines.push(line(one.smooth, one.first, 'training loss, smoothed', colour, { derived: true }))
    if (one.validation)
        lines.push(
            line(one.validation, one.first, 'validation loss', MODELS.pruned!, {
                points: one.validation.steps.data.length <= 60,
            }),
        )
    const references = spread(
        [
            { value: one.loss_pruned, label: 'right after pruning' },
            { value: one.loss_before, label: 'before pruning' },
            { value: baseline, label: 'baseline' },
        ],
        lines,
    )
    const share = recoveredShare(one)
    return {
        title: `Cycle ${one.cycle}${known(share) ? `: ${percent(share)} recovered` : ''}`,
        unit: UNIT,
        lines,
        references,
        domain: [one.first, Math.max(one.last, one.first + 1)],
        height: 220,
        empty: 'No loss was recorded in this fine-tuning.',
    }
}

/** A colour per cycle, dark to light in their order. */
export const cycleColour = (at: number, count: number): string =>
    CIVIDIS[Math.round(((CIVIDIS.length - 1) * at) / Math.max(count - 1, 1))]!
export const DASHES = [undefined, 'dashed', 'dotted'] as const

/**
 * All fine-tunings from the same start: what is left of the loss that pruning cost, on validation text where every
 * cycle has it, else the training loss as it is.
 */
export function alignedSpec(view: FineTuning, most = 12): LineSpec {
    const all = view.recoveries
    const shown = all.length <= most ? all : [...all.slice(0, most - 1), all.at(-1)!]
    const validated = shown.every((one) => one.validation && known(one.loss_before))
    const lines = shown.flatMap((one, at): Line[] => {
        const series = validated ? one.validation : (one.smooth ?? one.training)
        if (!series) return []
        const colour = cycleColour(at, shown.length)
        const drawn = line(series, 0, `cycle ${one.cycle}`, colour, {
            dash: DASHES[at % DASHES.length],
            points: series.steps.data.length <= 60,
        })
        if (!validated) return [drawn]
        const start = known(one.loss_pruned) && !(series.steps.data[0] === 0)
        return [
            {
                ...drawn,
                steps: Float64Array.from([...(start ? [0] : []), ...series.steps.data]),
                values: moved(
                    [...(start ? [one.loss_pruned!] : []), ...series.values.data],
                    -one.loss_before!,
                ),
                total: series.total + Number(start),
            },
        ]
    })
    const longest = Math.max(1, ...shown.map((one) => one.last - one.first))
    const left = all.length - shown.length
    return {
        title: `Recovery, ${left ? `${left} cycles left out` : 'all cycles'}`,
        unit: validated ? 'validation loss − loss before pruning' : `training loss, ${UNIT}`,
        lines,
        references: validated ? [{ value: 0, label: 'as before pruning' }] : [],
        domain: [0, longest],
        own: STEPS_SINCE_PRUNING,
        height: 280,
        empty: 'No recovery curve yet.',
    }
}
