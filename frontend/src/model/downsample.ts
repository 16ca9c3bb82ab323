/** Which points of a long curve a chart needs: none of those that are dropped would change a pixel's extent. */

export type Numbers = ArrayLike<number>

/** First index whose step is at least `step`. */
export function lowerBound(steps: Numbers, step: number): number {
    let low = 0
    let high = steps.length
    while (low < high) {
        const middle = (low + high) >> 1
        if (steps[middle]! < step) low = middle + 1
        else high = middle
    }
    return low
}

/** First index whose step is above `step`. */
export function upperBound(steps: Numbers, step: number): number {
    let low = 0
    let high = steps.length
    while (low < high) {
        const middle = (low + high) >> 1
        if (steps[middle]! <= step) low = middle + 1
        else high = middle
    }
    return low
}

/** Index of the newest point at `step` or before it; −1 where there is none. */
export const atOrBefore = (steps: Numbers, step: number): number => upperBound(steps, step) - 1

/**
 * Indices to draw between two steps on so many pixel columns, in order: of every column the first, lowest, highest
 * and last finite point and the first that is not finite; and one point beyond each end, so that lines leave the window.
 */
export function keptIndices(
    steps: Numbers,
    values: Numbers,
    first: number,
    last: number,
    columns: number,
): Int32Array {
    const from = Math.max(lowerBound(steps, first) - 1, 0)
    const to = Math.min(upperBound(steps, last) + 1, steps.length)
    const wide = Math.max(Math.floor(columns), 1)
    if (to - from <= 5 * wide)
        return Int32Array.from({ length: Math.max(to - from, 0) }, (_, at) => from + at)
    const kept = new Int32Array(5 * (wide + 3))
    const scale = last > first ? wide / (last - first) : 0
    let count = 0
    let at = from
    while (at < to) {
        const column = columnOf(steps[at]!, first, last, scale, wide)
        let begin = -1
        let end = -1
        let low = -1
        let high = -1
        let odd = -1
        for (; at < to && columnOf(steps[at]!, first, last, scale, wide) === column; at++) {
            const value = values[at]!
            if (value - value !== 0) {
                if (odd < 0) odd = at
                continue
            }
            if (begin < 0) begin = low = high = at
            end = at
            if (value < values[low]!) low = at
            if (value > values[high]!) high = at
        }
        count = insert(kept, count, begin, Math.min(low, high), Math.max(low, high), end, odd)
    }
    return kept.slice(0, count)
}

function columnOf(step: number, first: number, last: number, scale: number, wide: number): number {
    if (step < first) return -1
    if (step > last) return wide + 1
    return Math.min(Math.floor((step - first) * scale), wide)
}

/** Adds the found points of one column, each once and in order; −1 is none. */
function insert(
    kept: Int32Array,
    count: number,
    a: number,
    b: number,
    c: number,
    d: number,
    odd: number,
): number {
    let last = -1
    for (const one of [a, b, c, d]) {
        if (one < 0 || one === last) continue
        if (odd >= 0 && odd < one) {
            kept[count++] = odd
            odd = -1
        }
        kept[count++] = last = one
    }
    if (odd >= 0) kept[count++] = odd
    return count
}
