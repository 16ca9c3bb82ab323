/** Colours of numbers: cividis for importance, one hue for attention, blue–white–red for differences. */
import { CIVIDIS } from './palette'

export type Ramp = Uint32Array // 256 pixels, as ImageData holds them on little-endian machines

const ATTENTION = ['#FFFFFF', '#DCE9F6', '#B5D1EA', '#7FB2DA', '#4A8DC4', '#1F68A8', '#0B4785', '#062C5A']
const DIFFERENCE = [
    '#0B3C7D',
    '#2F6DB5',
    '#7FAEDB',
    '#C9DDF0',
    '#FFFFFF',
    '#F8D3C5',
    '#EB9478',
    '#CB4B3B',
    '#8C1322',
]

const channels = (hex: string): [number, number, number] => [
    parseInt(hex.slice(1, 3), 16),
    parseInt(hex.slice(3, 5), 16),
    parseInt(hex.slice(5, 7), 16),
]
export function pixel(hex: string): number {
    const [red, green, blue] = channels(hex)
    return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0
}
export function cssOf(one: number): string {
    const hex = (value: number) => (value & 255).toString(16).padStart(2, '0')
    return `#${hex(one)}${hex(one >>> 8)}${hex(one >>> 16)}`
}

function ramp(colours: string[]): Ramp {
    const stops = colours.map(channels)
    return Uint32Array.from({ length: 256 }, (_, at) => {
        const position = (at / 255) * (stops.length - 1)
        const low = Math.min(Math.floor(position), stops.length - 2)
        const share = position - low
        const mixed = stops[low]!.map((one, c) => Math.round(one * (1 - share) + stops[low + 1]![c]! * share))
        return ((255 << 24) | (mixed[2]! << 16) | (mixed[1]! << 8) | mixed[0]!) >>> 0
    })
}

export const IMPORTANCE = ramp(CIVIDIS)
/** One hue for what begins at nothing: a count, a distance. */
const LIGHT_SEQUENCE = ramp(ATTENTION.slice(0, -1))
const DARK_SEQUENCE = ramp(['#20242A', '#16304C', '#14477A', '#1F68A8', '#4A8DC4', '#7FB2DA', '#C4DCF0'])
export const sequence = (dark: boolean): Ramp => (dark ? DARK_SEQUENCE : LIGHT_SEQUENCE)
/** Most weights of a row are small: the hue deepens with the root of the weight, and the legend shows it so. */
export const WEIGHT: Ramp = (() => {
    const even = ramp(ATTENTION)
    return Uint32Array.from(even, (_, at) => even[Math.round(255 * Math.sqrt(at / 255))]!)
})()
export const CHANGE = ramp(DIFFERENCE)

/** Differences of weights deepen in the same way on both sides of 0. */
export const WEIGHT_CHANGE: Ramp = Uint32Array.from(CHANGE, (_, at) => {
    const share = (2 * at) / 255 - 1
    return CHANGE[Math.round(127.5 + 127.5 * Math.sign(share) * Math.sqrt(Math.abs(share)))]!
})

/** Where a value lies in its domain, 0…1, clipped; NaN stays NaN; a domain of one value is its middle. */
export function fraction(value: number, low: number, high: number): number {
    if (Number.isNaN(value)) return NaN
    if (!(high > low)) return 0.5
    if (!Number.isFinite(high - low)) return value === low ? 0 : value === high ? 1 : 0.5
    return Math.min(Math.max((value - low) / (high - low), 0), 1)
}

/** Place on a ramp, or −1 where there is no number. */
export function place(value: number, low: number, high: number): number {
    const share = fraction(value, low, high)
    return Number.isNaN(share) ? -1 : Math.round(share * 255)
}

/** The least and the largest finite number; null without any. */
export function domainOf(values: ArrayLike<number>): [number, number] | null {
    let low = Infinity
    let high = -Infinity
    for (let at = 0; at < values.length; at++) {
        const value = values[at]!
        if (!Number.isFinite(value)) continue
        if (value < low) low = value
        if (value > high) high = value
    }
    return low <= high ? [low, high] : null
}

/** The largest size of a finite number: half of a domain that is centred at 0. */
export function reach(values: ArrayLike<number>): number {
    const domain = domainOf(values)
    return domain ? Math.max(Math.abs(domain[0]), Math.abs(domain[1])) : 0
}

/** A ramp as the stops of a CSS gradient. */
export function gradient(of: Ramp, direction = 'to right'): string {
    const stops = Array.from({ length: 17 }, (_, at) => cssOf(of[Math.round((at * 255) / 16)]!))
    return `linear-gradient(${direction}, ${stops.join(', ')})`
}

/** Black or white, whichever reads better on a colour (WCAG relative luminance). */
export function inkOn(one: number): '#000000' | '#ffffff' {
    const linear = [one, one >>> 8, one >>> 16].map((value) => {
        const c = (value & 255) / 255
        return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * linear[0]! + 0.7152 * linear[1]! + 0.0722 * linear[2]! > 0.179 ? '#000000' : '#ffffff'
}
