/** Attention patterns of a head over the takes of a prompt: finding them, their differences, their drift. */
import type { AttentionTake } from './types'

export const NO_PATTERN = 255
const FULL = 254

/** A pattern; `pruned` when the head was looked at and has none; `unseen` when nobody looked. */
export type Pattern = Uint8Array | 'pruned' | 'unseen'

export const sideOf = (take: AttentionTake): number => take.maps.shape[1] ?? 0

export function takeLabel(take: AttentionTake): string {
    return take.cycle ? `cycle ${take.cycle}` : take.model
}

/** "layer.head" → place in the take. */
export function placesOf(take: AttentionTake): Map<string, number> {
    const { data } = take.heads
    const places = new Map<string, number>()
    for (let at = 0; 2 * at + 1 < data.length; at++) places.set(`${data[2 * at]}.${data[2 * at + 1]}`, at)
    return places
}

export function patternAt(take: AttentionTake, at: number): Pattern {
    const side = sideOf(take)
    const map = take.maps.data.subarray(at * side * side, (at + 1) * side * side)
    return map.some((one) => one !== NO_PATTERN) ? map : 'pruned'
}

export function patternOf(take: AttentionTake, layer: number, head: number): Pattern {
    const { data } = take.heads
    for (let at = 0; 2 * at + 1 < data.length; at++)
        if (data[2 * at] === layer && data[2 * at + 1] === head) return patternAt(take, at)
    return 'unseen'
}

/** a − b, −1…1, NaN where either has no number. Takes of different length are compared on the shorter one. */
export function difference(a: Uint8Array, b: Uint8Array): { values: Float32Array; side: number } {
    const [sideA, sideB] = [Math.sqrt(a.length), Math.sqrt(b.length)]
    const side = Math.min(sideA, sideB)
    const values = new Float32Array(side * side)
    for (let row = 0; row < side; row++)
        for (let column = 0; column < side; column++) {
            const [p, q] = [a[row * sideA + column]!, b[row * sideB + column]!]
            values[row * side + column] = p === NO_PATTERN || q === NO_PATTERN ? NaN : (p - q) / FULL
        }
    return { values, side }
}

// x log2 x at every value that a quantised weight, or the mean of two, can have.
const HALVES = Float64Array.from({ length: 2 * FULL + 1 }, (_, twice) => {
    const p = twice / (2 * FULL)
    return p > 0 ? p * Math.log2(p) : 0
})

/** Mean over rows of the Jensen–Shannon divergence, in bits (0 the same, 1 nothing in common); null if unknown. */
export function drift(a: Pattern, b: Pattern): number | null {
    if (typeof a === 'string' || typeof b === 'string') return null
    const [sideA, sideB] = [Math.sqrt(a.length), Math.sqrt(b.length)]
    const side = Math.min(sideA, sideB)
    let sum = 0
    let rows = 0
    for (let row = 0; row < side; row++) {
        let bits = 0
        let known = true
        for (let column = 0; column < side; column++) {
            const [p, q] = [a[row * sideA + column]!, b[row * sideB + column]!]
            if (p === NO_PATTERN || q === NO_PATTERN) known = false
            else bits += (HALVES[2 * p]! + HALVES[2 * q]!) / 2 - HALVES[p + q]!
        }
        if (!known) continue
        sum += Math.min(Math.max(bits, 0), 1)
        rows++
    }
    return rows ? sum / rows : null
}

export interface Moved {
    layer: number
    head: number
    drift: number
}
/** Drift of one head between two takes; the record's own figure where the base is the prompt's first take. */
export function driftBetween(
    takes: AttentionTake[],
    base: number,
    other: number,
    layer: number,
    head: number,
) {
    const [from, to] = [takes[base], takes[other]]
    if (!from || !to) return null
    const at = placesOf(to).get(`${layer}.${head}`)
    const told = at === undefined || base !== 0 ? undefined : to.drift?.data[at]
    if (told !== undefined && !Number.isNaN(told)) return told
    return drift(patternOf(from, layer, head), patternOf(to, layer, head))
}

/** Drift of every head that both takes know: a flat grid (NaN: unknown), and the heads, largest drift first. */
export function drifts(
    base: AttentionTake,
    other: AttentionTake,
    shape: [number, number],
    told = false,
): { grid: Float32Array; movers: Moved[]; gone: number } {
    const grid = new Float32Array(shape[0] * shape[1]).fill(NaN)
    const movers: Moved[] = []
    let gone = 0
    const places = placesOf(other)
    for (const [key, at] of placesOf(base)) {
        const there = places.get(key)
        if (there === undefined) continue
        const [layer = 0, head = 0] = key.split('.').map(Number)
        const known = told ? other.drift?.data[there] : undefined
        const found =
            known !== undefined && !Number.isNaN(known)
                ? known
                : drift(patternAt(base, at), patternAt(other, there))
        if (found === null) gone++
        else {
            if (layer < shape[0] && head < shape[1]) grid[layer * shape[1] + head] = found
            movers.push({ layer, head, drift: found })
        }
    }
    movers.sort((a, b) => b.drift - a.drift || a.layer - b.layer || a.head - b.head)
    return { grid, movers, gone }
}

/** Tokens as they are shown: the spaces and line breaks of byte-level vocabularies made visible. */
export function tokenText(token: string): string {
    return token.replaceAll('Ġ', '␣').replaceAll('▁', '␣').replaceAll('Ċ', '↵').replaceAll('\n', '↵')
}
