/** Axes: round ranges, ticks and their labels, linear, logarithmic and in time. */
import { plain, whole } from '../model/format'

export interface Scale {
    min: number
    max: number
    ticks: number[]
    label(tick: number): string
}

const MINUS = '−'

/** The round step (1, 2 or 5 times a power of ten) that gives about so many ticks. */
export function roundStep(range: number, count: number): number {
    const rough = range / Math.max(count, 1)
    const power = 10 ** Math.floor(Math.log10(rough))
    const share = rough / power
    return (share > 7.1 ? 10 : share > 3.2 ? 5 : share > 1.5 ? 2 : 1) * power
}

const digitsOf = (step: number) => Math.max(0, -Math.floor(Math.log10(step) + 1e-9))

export function tickText(value: number, step: number): string {
    const size = Math.abs(value)
    if (value === 0) return '0'
    if (size >= 1e5 || (size < 1e-3 && step < 1e-3)) {
        for (const [unit, sign] of [
            [1e9, ' G'],
            [1e6, ' M'],
            [1e3, ' k'],
        ] as const)
            if (size >= unit && size < 1e12)
                return plain(value / unit, Math.min(digitsOf(step / unit), 3)) + sign
        return value
            .toExponential(Math.max(0, Math.min(2, digitsOf(step / 10 ** Math.floor(Math.log10(size))))))
            .replace('e+', 'e')
            .replaceAll('-', MINUS)
    }
    return plain(value, Math.min(digitsOf(step), 6))
}

function ticksBetween(min: number, max: number, step: number): number[] {
    const found = []
    for (let at = Math.ceil(min / step - 1e-9); at <= max / step + 1e-9 && found.length < 100; at++)
        found.push(Math.min(Math.max(at * step, min), max) || 0)
    return found
}

/** A range with room around the values, and its ticks. Equal values get a range around them, zeros one above. */
export function valueScale(low: number, high: number, count: number): Scale {
    if (!(low <= high)) [low, high] = [0, 1]
    if (low === high) {
        const room = Math.abs(low) * 0.1
        ;[low, high] = low === 0 ? [0, 1] : [low - room, high + room]
    }
    const room = (high - low) * 0.05
    const min = low >= 0 && low - room < 0 ? 0 : low - room
    const max = high + room
    // One tick alone gives no scale: rather one more than asked for.
    let step = roundStep(max - min, count)
    for (let more = count + 1; ticksBetween(min, max, step).length < 2 && more < 12; more++)
        step = roundStep(max - min, more)
    return { min, max, ticks: ticksBetween(min, max, step), label: (tick) => tickText(tick, step) }
}

/** As `valueScale` for logarithms (base ten) of positive values: ticks at 1, 2, 5 in each decade, or at decades. */
export function logScale(low: number, high: number, count: number): Scale {
    if (!(low <= high)) [low, high] = [0, 1]
    const room = Math.max((high - low) * 0.05, 0.02)
    const [min, max] = [low - room, high + room]
    const decades = Math.max(1, Math.ceil((max - min) / Math.max(count, 1)))
    const found: number[] = []
    for (let power = Math.floor(min); power <= max; power += 1)
        for (const factor of max - min > count * 0.7 ? [1] : [1, 2, 5]) {
            const at = power + Math.log10(factor)
            if (at >= min && at <= max && (factor > 1 || power % decades === 0)) found.push(at)
        }
    if (found.length < 2) {
        const step = roundStep(10 ** max - 10 ** min, count)
        const ticks = ticksBetween(10 ** min, 10 ** max, step).filter((tick) => tick > 0)
        return { min, max, ticks: ticks.map(Math.log10), label: (tick) => tickText(10 ** tick, step) }
    }
    return { min, max, ticks: found, label: (tick) => tickText(10 ** tick, 10 ** Math.floor(tick + 1e-9)) }
}

/** Exactly from `min` to `max`, in whole steps. */
export function stepScale(min: number, max: number, count: number): Scale {
    const step = Math.max(roundStep(max - min || 1, count), 1)
    return { min, max, ticks: ticksBetween(min, max, step), label: (tick) => plainStep(tick) }
}

const plainStep = (value: number) => whole(value || 0)

const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400]

/** Elapsed time from `min` to `max` seconds. */
export function timeScale(min: number, max: number, count: number): Scale {
    const rough = (max - min) / Math.max(count, 1)
    const step =
        rough < 1
            ? roundStep(max - min || 1, count)
            : (SECONDS.find((one) => one >= rough) ?? roundStep((max - min) / 86400, count) * 86400)
    return {
        min,
        max,
        ticks: ticksBetween(min, max, step),
        label: (tick) => elapsed(tick, step, max >= 3600),
    }
}

/** `0:41` and `12:03` min, `1:02` h, `1:02:07` h; days are counted; parts of a second where the step has them. */
export function elapsed(seconds: number, step = 1, long = seconds >= 3600): string {
    if (step < 1) return `${plain(seconds, digitsOf(step))} s`
    const whole = Math.round(seconds)
    const two = (value: number) => String(value).padStart(2, '0')
    const [days, hours] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24]
    const [minutes, rest] = [Math.floor(whole / 60) % 60, whole % 60]
    if (days) return `${days} d ${hours}:${two(minutes)} h`
    if (!long) return `${minutes}:${two(rest)} min`
    return `${hours}:${two(minutes)}${step < 60 ? `:${two(rest)}` : ''} h`
}
