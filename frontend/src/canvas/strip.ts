/** Scores of one decision in the order in which heads go, with the decision on them. */
import { significant } from '../model/format'
import { isThere, type Grid } from '../model/heads'
import { MARKS } from '../model/palette'
import { ABSENT } from '../model/types'
import { hatch, type Ink } from './ink.svelte'

export interface Strip {
    /** Flat places of the heads that have a score, in the order in which they go. */
    order: number[]
    values: Float64Array
    low: number
    high: number
    /** Heads that were there and have no score. */
    unknown: number
}

export function stripOf(scores: Grid, states: Grid, threshold: number | null, highFirst = false): Strip {
    const sign = highFirst ? -1 : 1
    const order: number[] = []
    let unknown = 0
    for (let at = 0; at < scores.length; at++) {
        if (!isThere(states[at] ?? ABSENT)) continue
        if (Number.isNaN(scores[at]!)) unknown++
        else order.push(at)
    }
    order.sort((a, b) => sign * (scores[a]! - scores[b]!) || a - b)
    const finite = order.map((at) => scores[at]!).filter(Number.isFinite)
    if (threshold !== null && Number.isFinite(threshold)) finite.push(threshold)
    let [low, high] = [0, 0]
    for (const one of finite) [low, high] = [Math.min(low, one), Math.max(high, one)]
    if (low === high) high = low + 1
    const values = Float64Array.from(order, (at) => Math.min(Math.max(scores[at]!, low), high))
    return { order, values, low, high, unknown }
}

export interface StripPlan {
    left: number
    top: number
    width: number
    height: number
    slot: number
}
export function stripPlan(strip: Strip, width: number, height: number): StripPlan {
    const [left, top] = [60, 10]
    const inner = { left, top, width: Math.max(width - left - 8, 1), height: Math.max(height - top - 34, 1) }
    const slot = Math.min(inner.width / Math.max(strip.order.length, 1), 48)
    return { ...inner, slot }
}
export const yOf = (strip: Strip, plan: StripPlan, value: number): number =>
    plan.top + plan.height * (1 - (value - strip.low) / (strip.high - strip.low))

/** Round values for an axis, from low to high. */
export function scale(low: number, high: number, most = 4): number[] {
    const raw = (high - low) / most
    if (!(raw > 0) || !Number.isFinite(raw)) return [low]
    const size = 10 ** Math.floor(Math.log10(raw))
    const step = ([1, 2, 2.5, 5].find((one) => one * size >= raw) ?? 10) * size
    const found: number[] = []
    for (let at = Math.ceil(low / step); at * step <= high + step / 1e6; at++) found.push(at * step)
    return found
}

export interface Decided {
    chosen: Grid
    protected: Grid
    threshold: number | null
    highFirst: boolean
    name: (at: number) => string
}

export function paintStrip(
    context: CanvasRenderingContext2D,
    strip: Strip,
    plan: StripPlan,
    decided: Decided,
    ink: Ink,
): void {
    const { left, top, width, height, slot } = plan
    context.font = `11px ${ink.font}`
    context.textBaseline = 'middle'
    for (const value of scale(strip.low, strip.high)) {
        const y = Math.round(yOf(strip, plan, value)) + 0.5
        context.fillStyle = ink.line
        context.fillRect(left, y - 0.5, width, 1)
        context.fillStyle = ink.muted
        context.textAlign = 'right'
        context.fillText(value ? significant(value) : '0', left - 6, y)
    }
    const gap = slot >= 5 ? 1 : 0
    const pattern = hatch(context, { ...ink, hatch: MARKS.pruned ?? ink.hatch })
    const zero = yOf(strip, plan, Math.max(strip.low, 0))
    strip.order.forEach((at, index) => {
        const x = left + index * slot
        const y = yOf(strip, plan, strip.values[index]!)
        const box = [
            x,
            Math.min(y, zero),
            Math.max(slot - gap, 0.7),
            Math.max(Math.abs(zero - y), 1),
        ] as const
        context.fillStyle = !decided.chosen[at] ? ink.hatch : slot < 4 ? (MARKS.pruned ?? '') : pattern
        context.fillRect(...box)
        if (decided.chosen[at] && slot >= 4) {
            context.strokeStyle = MARKS.pruned ?? ''
            context.lineWidth = 1
            context.strokeRect(
                box[0] + 0.5,
                box[1] + 0.5,
                Math.max(box[2] - 1, 0.5),
                Math.max(box[3] - 1, 0.5),
            )
        }
    })
    paintKept(context, strip, plan, decided, ink)
    paintThreshold(context, strip, plan, decided, ink)
    context.fillStyle = ink.muted
    context.textBaseline = 'alphabetic'
    if (slot >= 30) {
        context.textAlign = 'center'
        strip.order.forEach((at, index) =>
            context.fillText(decided.name(at), left + (index + 0.5) * slot, top + height + 14, slot - 2),
        )
    }
    context.textAlign = 'left'
    context.fillText(
        `active heads, ${decided.highFirst ? 'highest' : 'lowest'} score first →`,
        left,
        top + height + 30,
    )
}

function paintKept(
    context: CanvasRenderingContext2D,
    strip: Strip,
    plan: StripPlan,
    decided: Decided,
    ink: Ink,
): void {
    context.fillStyle = '#ffffff'
    context.strokeStyle = ink.ink
    context.lineWidth = 1.5
    strip.order.forEach((at, index) => {
        if (!decided.protected[at]) return
        context.beginPath()
        const y = yOf(strip, plan, strip.values[index]!)
        context.arc(plan.left + (index + 0.5) * plan.slot, y - 6, 3.5, 0, 2 * Math.PI)
        context.fill()
        context.stroke()
    })
}

function paintThreshold(
    context: CanvasRenderingContext2D,
    strip: Strip,
    plan: StripPlan,
    { threshold, highFirst }: Decided,
    ink: Ink,
): void {
    if (threshold === null || !Number.isFinite(threshold)) return
    const y = Math.round(yOf(strip, plan, threshold)) + 0.5
    context.strokeStyle = ink.ink
    context.lineWidth = 1
    context.setLineDash([5, 3])
    context.beginPath()
    context.moveTo(plan.left, y)
    context.lineTo(plan.left + plan.width, y)
    context.stroke()
    context.setLineDash([])
    const text = `threshold ${significant(threshold)}`
    // Above the low bars: where the highest go first, these are at the right.
    const x = highFirst ? plan.left + plan.slot * strip.order.length - 4 : plan.left + 4
    const above = y - plan.top > 16 ? y - 8 : y + 9
    context.textAlign = highFirst ? 'right' : 'left'
    context.textBaseline = 'middle'
    context.strokeStyle = ink.panel
    context.lineWidth = 4
    context.strokeText(text, x, above)
    context.fillStyle = ink.ink
    context.fillText(text, x, above)
}
