/** What a chart says in words: how many points it shows, and its values for those who do not see it. */
import { atOrBefore } from '../model/downsample'
import { plural, significant, whole } from '../model/format'
import type { Counts } from './prepare'
import type { LineSpec } from './spec'

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

export function spoken(spec: LineSpec, step: number | null): string {
    if (step === null) return spec.title
    const values = spec.lines
        .filter((line) => !line.faint)
        .map((line) => {
            const at = atOrBefore(line.steps, step)
            return at < 0 ? '' : `${line.label} ${significant(line.values[at], 4)}`
        })
    return [`step ${whole(step)}`, ...values.filter(Boolean)].join(', ')
}
