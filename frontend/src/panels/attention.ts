/** What the attention panel shows: which heads, and what is said of them. */
import { patternAt, patternOf, placesOf, type Moved } from '../model/attention'
import type { Place } from '../model/heads'
import type { AttentionTake } from '../model/types'

/** The selected head first, then those that moved most, then pruned ones, each once; at most `most`. */
export function headsToShow(
    takes: AttentionTake[],
    movers: Moved[],
    selected: Place | null,
    most: number,
): Place[] {
    const found = new Map<string, Place>()
    const add = ({ layer, head }: Place): void => {
        if (found.size < most) found.set(`${layer}.${head}`, { layer, head })
    }
    if (selected && takes.some((take) => patternOf(take, selected.layer, selected.head) !== 'unseen'))
        add(selected)
    movers.forEach(add)
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
