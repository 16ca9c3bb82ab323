/** What the attention panel shows: which heads, in what grids, with which lines. */
import { CYCLE_FROM_BASELINE } from '../charts/axes'
import type { Line, LineSpec } from '../charts/spec'
import {
    patternAt,
    patternOf,
    placesOf,
    scoreLine,
    type PromptTakes,
    type ScoreLine,
    type ScoreName,
} from '../model/attention'
import { headName, type Place } from '../model/heads'
import { MODELS } from '../model/palette'
import type { AttentionDrift, AttentionTake } from '../model/types'

/** The selected head first, then those that moved most, then the others, each once; at most `most`. */
export function headsToShow(
    takes: AttentionTake[],
    movers: Place[],
    selected: Place | null,
    most: number,
): Place[] {
    const found = new Map<string, Place>()
    const add = ({ layer, head }: Place): void => {
        if (found.size < most) found.set(`${layer}.${head}`, { layer, head })
    }
    const seen = ({ layer, head }: Place) => takes.some((take) => patternOf(take, layer, head) !== 'unseen')
    if (selected && seen(selected)) add(selected)
    movers.filter(seen).forEach(add)
    for (const take of takes)
        for (let at = 0; 2 * at + 1 < take.heads.data.length && found.size < most; at++)
            add({ layer: take.heads.data[2 * at]!, head: take.heads.data[2 * at + 1]! })
    return [...found.values()]
}

/** Heads that have a pattern in any take. */
export const headCount = (takes: AttentionTake[]): number => {
    const seen = new Set<string>()
    for (const take of takes)
        for (const [key, at] of placesOf(take))
            if (!seen.has(key) && patternAt(take, at) !== 'pruned') seen.add(key)
    return seen.size
}

export interface DriftGrid {
    step: number
    cycle: number
    values: ArrayLike<number>
}
/** One grid a look, from the second on; against the baseline, or against the look before. */
export function driftGrids(drift: AttentionDrift | undefined, toPrevious: boolean): DriftGrid[] {
    if (!drift) return []
    const { data, shape } = toPrevious ? drift.to_previous : drift.to_baseline
    const [moments = 0, layers = 0, heads = 0] = shape
    return Array.from({ length: moments }, (_, at) => ({
        step: drift.steps.data[at]!,
        cycle: drift.cycles.data[at]!,
        values: data.subarray(at * layers * heads, (at + 1) * layers * heads),
    })).slice(drift.model === 'control' ? 0 : 1)
}

export const SCORES: { name: ScoreName; label: string; says: string }[] = [
    { name: 'first_token_mass', label: 'On the first token', says: 'attention that rests there' },
    { name: 'previous_token', label: 'On the token before', says: 'mean attention one position back' },
    {
        name: 'induction',
        label: 'Induction',
        says: 'attention to what followed last time, on repeated random tokens',
    },
]

/** One score over the cycles: the head's own line, the control's, and the median of all heads. */
export function scoreSpec(
    prompts: PromptTakes[],
    which: (typeof SCORES)[number],
    place: Place,
): LineSpec | null {
    const line = (label: string, colour: string, found: ScoreLine, more: Partial<Line> = {}): Line | null =>
        found.values.length
            ? {
                  name: label,
                  label,
                  colour,
                  steps: Int32Array.from(found.cycles),
                  values: Float64Array.from(found.values),
                  points: true,
                  ...more,
              }
            : null
    const median = scoreLine(prompts, which.name, null)
    const lines = [
        line(headName(place.layer, place.head), MODELS.pruned!, scoreLine(prompts, which.name, place), {
            width: 2,
        }),
        line('control’s', MODELS.control!, scoreLine(prompts, which.name, place, true), { dash: 'dashed' }),
        line('median of all heads', MODELS.baseline!, median, { dash: 'dotted' }),
    ].filter((one) => one !== null)
    if (!lines.length) return null
    const cycles = lines.flatMap((one) => Array.from(one.steps))
    return {
        title: which.label,
        unit: which.says,
        lines,
        references: [{ value: 0, label: '' }],
        domain: [Math.min(...cycles) - 0.3, Math.max(...cycles) + 0.3],
        own: CYCLE_FROM_BASELINE,
        percent: true,
        height: 150,
    }
}
