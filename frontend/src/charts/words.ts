/** What a chart says in words: how many points it shows, where one looks, and its values for those who do not see it. */
import type { Axis } from '../model/clock'
import { atOrBefore } from '../model/downsample'
import { plural, significant, whole } from '../model/format'
import type { Counts } from './prepare'
import { elapsed } from './scale'
import type { Line, LineSpec } from './spec'

export function countsSaid(counts: Counts, zoomed: boolean): string {
    const said: string[] = []
    const { shown, total } = counts
    if (total > shown)
        said.push(`${zoomed ? 'about ' : ''}${whole(shown)} of ${whole(total)} points, extremes kept`)
    else if (total) said.push(zoomed ? `exact: ${plural(total, 'point')}` : `all ${plural(total, 'point')}`)
    if (counts.nan) said.push(`${whole(counts.nan)} NaN (▲ below)`)
    if (counts.infinite) said.push(`${whole(counts.infinite)} infinite (▲ at the edge)`)
    if (counts.notPositive) said.push(`${whole(counts.notPositive)} not above 0: no place on a log axis`)
    return said.join(' · ')
}

/** What the horizontal axis is. */
export const axisWord = ({ own }: Pick<LineSpec, 'own'>, axis: Axis): string =>
    own?.label ?? (axis.kind === 'time' ? 'time since start' : 'step')

/** A place on the horizontal axis, in the axis' own words: `step 40`, `0:41 min`, `cycle 2`. */
export const placeSaid = ({ own }: Pick<LineSpec, 'own'>, axis: Axis, at: number): string =>
    own ? own.said(at) : axis.kind === 'time' ? elapsed(axis.at(at)) : `step ${whole(at)}`

/** The recorded place nearest to `x`: where there are only some (cycles), nothing is said of those between them. */
export function nearestPlace(lines: Line[], x: number): number | null {
    let best: number | null = null
    for (const { steps } of lines)
        for (let at = 0; at < steps.length; at++)
            if (best === null || Math.abs(steps[at]! - x) < Math.abs(best - x)) best = steps[at]!
    return best
}

export function spoken(spec: LineSpec, axis: Axis, at: number | null): string {
    if (at === null) return spec.title
    const values = spec.lines
        .filter((line) => !line.faint)
        .map((line) => {
            const index = atOrBefore(line.steps, at)
            return index < 0 ? '' : `${line.label} ${significant(line.values[index], 4)}`
        })
    return [placeSaid(spec, axis, at), ...values.filter(Boolean)].join(', ')
}
