/** What the growth panel says of heads that came back or were added. */
import { signed, significant, whole } from '../model/format'
import { ranksAmong, rankWords, scoreGrid, statesAt } from '../model/heads'
import type { Criterion, Growth, Heads } from '../model/types'

export type Return = Growth['returns'][number]

export function growthHeadline(all: Return[]): string {
    const count = (origin: Return['origin']) => all.filter((one) => one.origin === origin).length
    const [back, added] = [count('regrown'), count('added')]
    const again = all.filter((one) => one.pruned_again_step !== null).length
    const parts = [
        back ? `${whole(back)} ${back === 1 ? 'head' : 'heads'} grew back` : '',
        added ? `${whole(added)} ${added === 1 ? 'was' : 'were'} added` : '',
    ].filter(Boolean)
    const since = again
        ? `${whole(again)} of them ${again === 1 ? 'was' : 'were'} pruned again`
        : all.length === 1
          ? 'it is still there'
          : 'all of them are still there'
    return `${parts.join(', ')}; ${since}.`
}

/** Where a head stands at the last measurement after `step`; empty where there was none. */
export function standing(
    heads: Heads | undefined,
    criterion: Criterion | null,
    layer: number,
    head: number,
    step: number,
): string {
    if (!heads || !criterion) return ''
    const at = layer * heads.shape[1] + head
    const { data: steps } = criterion.steps
    for (let moment = steps.length - 1; moment >= 0 && steps[moment]! >= step; moment--) {
        const scores = scoreGrid(criterion, moment)
        if (!scores || Number.isNaN(scores[at] ?? NaN)) continue
        const { ranks, of } = ranksAmong(scores, statesAt(heads, steps[moment]!))
        const rank = rankWords(ranks[at] ?? -1, of)
        return rank ? `${rank} in ${criterion.label.toLowerCase()} at step ${whole(steps[moment]!)}` : ''
    }
    return ''
}

export function returned(all: Return[], heads: Heads | undefined, criterion: Criterion | null, last: number) {
    return all.map((one) => {
        const until = one.pruned_again_step
        const lived =
            until === null
                ? `active for ${whole(Math.max(last - one.step, 0))} steps so far`
                : `pruned again at step ${whole(until)}, after ${whole(until - one.step)} steps`
        const rank = standing(heads, criterion, one.layer, one.head, one.step)
        const { loss_before: before, loss_after: after } = one
        return {
            ...one,
            absent: one.pruned_step === null ? '–' : `${whole(one.step - one.pruned_step)} steps`,
            evidence: [one.strategy, one.score === null ? '' : `score ${significant(one.score)}`]
                .filter(Boolean)
                .join(', '),
            loss:
                before === null || after === null
                    ? ''
                    : `${significant(before, 4)} → ${significant(after, 4)} (${signed(after - before)})`,
            since: [lived, rank].filter(Boolean).join('; '),
        }
    })
}
