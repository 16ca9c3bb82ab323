/** Smoothed curves; what is not finite stays where it is and enters no mean. */
import type { Numbers } from './downsample'

export interface Smoothing {
    kind: 'mean' | 'ema'
    /** Points of the window, or of the exponential mean's span. */
    width: number
}

/** Smooths each stretch between `cuts` (indices) by itself, so that a jump at a pruning stays a jump. */
export function smoothed(values: Numbers, { kind, width }: Smoothing, cuts: number[] = []): Float64Array {
    const whole = Float64Array.from(values)
    const found = new Float64Array(whole.length)
    const inner = cuts.filter((at) => at > 0 && at < whole.length).sort((a, b) => a - b)
    const ends = [0, ...inner, whole.length]
    for (let piece = 0; piece + 1 < ends.length; piece++) {
        const part = whole.subarray(ends[piece], ends[piece + 1])
        found.set(kind === 'mean' ? runningMean(part, width) : exponentialMean(part, width), ends[piece])
    }
    return found
}

/** Centred mean over `width` points (made odd), narrower at the ends. */
export function runningMean(values: Numbers, width: number): Float64Array {
    const count = values.length
    const half = Math.max(0, Math.floor(width / 2))
    const sums = new Float64Array(count + 1)
    const known = new Int32Array(count + 1)
    // Sums about one value: a large offset would eat the digits of small differences.
    let offset = 0
    for (let at = 0; at < count; at++)
        if (Number.isFinite(values[at])) {
            offset = values[at]!
            break
        }
    for (let at = 0; at < count; at++) {
        const finite = Number.isFinite(values[at]!)
        sums[at + 1] = sums[at]! + (finite ? values[at]! - offset : 0)
        known[at + 1] = known[at]! + (finite ? 1 : 0)
    }
    return Float64Array.from({ length: count }, (_, at) => {
        if (!Number.isFinite(values[at]!)) return NaN
        // Nearer to an end the window is narrower, or a steep beginning would be drawn too low; but never a point alone.
        const reach = Math.max(Math.min(half, at, count - 1 - at), Math.floor(half / 3))
        const [from, to] = [Math.max(at - reach, 0), Math.min(at + reach + 1, count)]
        return offset + (sums[to]! - sums[from]!) / (known[to]! - known[from]!)
    })
}

/** Exponential moving average with a span of `width` points, its start not drawn towards zero. */
export function exponentialMean(values: Numbers, width: number): Float64Array {
    const share = 2 / (Math.max(width, 1) + 1)
    let mean = 0
    let weight = 0
    return Float64Array.from({ length: values.length }, (_, at) => {
        const value = values[at]!
        if (!Number.isFinite(value)) return NaN
        mean = (1 - share) * mean + share * value
        weight = (1 - share) * weight + share
        return mean / weight
    })
}
