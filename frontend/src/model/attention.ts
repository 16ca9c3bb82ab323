/** Attention patterns of a head over the takes of a prompt: finding them, their differences, their drift. */
import type { AttentionEvolution, AttentionTake } from './types'

export type PromptTakes = AttentionEvolution['prompts'][number]

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

/** A look that some prompt was given: a column of the maps. */
export interface Look {
    step: number
    cycle: number
    model: string
}
const isControl = (model: string): boolean => model === 'control'
export const sameLook = (a: Look, b: Look): boolean =>
    a.step === b.step && a.cycle === b.cycle && isControl(a.model) === isControl(b.model)

/** Every look at any of the prompts, in order, the control's after the model's own of the same step. */
export function looksAt(prompts: PromptTakes[], control: boolean): Look[] {
    const found: Look[] = []
    for (const { takes } of prompts)
        for (const { step, cycle, model } of takes)
            if ((control || !isControl(model)) && !found.some((one) => sameLook(one, { step, cycle, model })))
                found.push({ step, cycle, model })
    return found.sort(
        (a, b) =>
            a.step - b.step || a.cycle - b.cycle || Number(isControl(a.model)) - Number(isControl(b.model)),
    )
}
export const takeOf = (takes: AttentionTake[], look: Look): AttentionTake | undefined =>
    takes.find((one) => sameLook(one, look))

export type ScoreName = 'first_token_mass' | 'previous_token' | 'induction'
export interface ScoreLine {
    cycles: number[]
    values: number[]
}
/** A score at each look, mean over the prompts: of one head, or (without one) the median over all heads. */
export function scoreLine(
    prompts: PromptTakes[],
    name: ScoreName,
    place: { layer: number; head: number } | null,
    control = false,
): ScoreLine {
    const line: ScoreLine = { cycles: [], values: [] }
    for (const look of looksAt(prompts, control)) {
        if (control !== isControl(look.model)) continue
        const own = new Map<string, number[]>()
        for (const { takes } of prompts) {
            const take = takeOf(takes, look)
            if (!take) continue
            for (const [key, at] of placesOf(take)) {
                const value = take[name].data[at]
                if (value === undefined || Number.isNaN(value)) continue
                own.set(key, [...(own.get(key) ?? []), value])
            }
        }
        const mean = (values: number[]) => values.reduce((sum, one) => sum + one, 0) / values.length
        const wanted = place
            ? (own.get(`${place.layer}.${place.head}`) ?? [])
            : [...own.values()].map(mean).sort((a, b) => a - b)
        if (!wanted.length) continue
        const middle = wanted.length >> 1
        const median = wanted.length % 2 ? wanted[middle]! : (wanted[middle - 1]! + wanted[middle]!) / 2
        line.cycles.push(look.cycle)
        line.values.push(place ? mean(wanted) : median)
    }
    return line
}

/** Tokens as they are shown: the spaces and line breaks of byte-level vocabularies made visible. */
export function tokenText(token: string): string {
    return token.replaceAll('Ġ', '␣').replaceAll('▁', '␣').replaceAll('Ċ', '↵').replaceAll('\n', '↵')
}
