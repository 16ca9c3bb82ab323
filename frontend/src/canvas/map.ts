/** Attention maps on a canvas: from each position (rows) to each position (columns). */
import { place, WEIGHT, WEIGHT_CHANGE, type Ramp } from '../model/colour'
import { difference, NO_PATTERN, tokenText, type Pattern } from '../model/attention'
import type { Ink } from './ink.svelte'

export interface Picture {
    side: number
    /** What is under each pixel: a weight 0…1, a difference −1…1, NaN for none. */
    values: Float32Array
    ramp: Ramp
    low: number
    high: number
}

/** A pattern as weights 0…1, or its difference to another one, −1…1. */
export function pictureOf(pattern: Pattern, base: Pattern | null): Picture | null {
    if (typeof pattern === 'string' || typeof base === 'string') return null
    if (base) return { ...difference(pattern, base), ramp: WEIGHT_CHANGE, low: -1, high: 1 }
    const values = Float32Array.from(pattern, (one) => (one === NO_PATTERN ? NaN : one / 254))
    return { side: Math.round(Math.sqrt(pattern.length)), values, ramp: WEIGHT, low: 0, high: 1 }
}

/** One pixel a pair of positions; the canvas is enlarged by CSS, or drawn into another one. */
export function paintPixels(canvas: HTMLCanvasElement, picture: Picture): void {
    canvas.width = canvas.height = Math.max(picture.side, 1)
    const context = canvas.getContext('2d')
    if (!context || !picture.side) return
    const image = context.createImageData(picture.side, picture.side)
    const pixels = new Uint32Array(image.data.buffer)
    for (let at = 0; at < pixels.length; at++) {
        const found = place(picture.values[at]!, picture.low, picture.high)
        pixels[at] = found < 0 ? 0 : picture.ramp[found]!
    }
    context.putImageData(image, 0, 0)
}

const MARGIN = 72
/** Where the map lies in a square of `size` pixels that has room for its tokens. */
export const mapBox = (size: number, side: number) => {
    const cell = Math.max((size - MARGIN) / Math.max(side, 1), 1)
    return { left: MARGIN, top: MARGIN, cell }
}

export function paintTokens(
    context: CanvasRenderingContext2D,
    size: number,
    tokens: string[],
    ink: Ink,
): void {
    const { left, top, cell } = mapBox(size, tokens.length)
    const every = Math.max(1, Math.ceil(11 / cell))
    context.font = `${Math.min(11, Math.max(cell * every - 1, 9))}px ${ink.font}`
    context.fillStyle = ink.muted
    context.textBaseline = 'middle'
    tokens.forEach((token, at) => {
        if (at % every) return
        const whole = tokenText(token)
        const text = whole.length > 10 ? `${whole.slice(0, 9)}…` : whole
        context.textAlign = 'right'
        context.fillText(text, left - 5, top + (at + 0.5) * cell, left - 6)
        context.save()
        context.translate(left + (at + 0.5) * cell, top - 5)
        context.rotate(-Math.PI / 2)
        context.textAlign = 'left'
        context.fillText(text, 0, 0, top - 6)
        context.restore()
    })
}
