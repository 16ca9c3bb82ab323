/** Numbers as people read them, as views/figures.py writes them: true minus, en dash for missing, NaN said. */

export const MISSING = '–'
const MINUS = '−'
type Value = number | null | undefined

const special = (value: Value): string =>
    value === null || value === undefined
        ? MISSING
        : Number.isNaN(value)
          ? 'NaN'
          : value > 0
            ? '∞'
            : `${MINUS}∞`
const known = (value: Value): value is number =>
    value !== null && value !== undefined && Number.isFinite(value)
const formats = new Map<number, Intl.NumberFormat>()
function grouped(value: number, digits: number): string {
    let format = formats.get(digits)
    if (!format) {
        const most = Math.min(digits, 20)
        // Ties go to the even digit, as Python writes them: 0.3125 is 0.312 here and in the figures.
        format = new Intl.NumberFormat('en-US', {
            minimumFractionDigits: most,
            maximumFractionDigits: most,
            roundingMode: 'halfEven',
        } as Intl.NumberFormatOptions)
        formats.set(digits, format)
    }
    return format.format(value)
}
const scientific = (value: number, digits: number) =>
    value.toExponential(digits).replace(/e([+-])(\d)$/, 'e$10$2')

/** Fixed digits, thousands separated; scientific from a million on. */
export function plain(value: Value, digits = 3): string {
    if (!known(value)) return special(value)
    let text = Math.abs(value) >= 1e6 ? scientific(value, 2) : grouped(value, digits)
    if (Number(text.replaceAll(',', '')) === 0) text = text.replace(/^-/, '')
    return text.replaceAll('-', MINUS)
}

export function significant(value: Value, digits = 3): string {
    if (!known(value)) return special(value)
    if (value && Math.abs(value) < 1e-4)
        return scientific(value, Math.max(digits - 1, 0)).replaceAll('-', MINUS)
    if (Math.abs(value) >= 1e6) return plain(value)
    const rounded = Math.abs(Number(value.toExponential(digits - 1)))
    const magnitude = rounded ? Math.floor(Math.log10(rounded)) : 0
    return plain(value, Math.max(digits - 1 - magnitude, 0))
}

export function signed(value: Value, digits = 3): string {
    const text = plain(value, digits)
    return value !== null && value !== undefined && value >= 0 ? `+${text}` : text
}

export const perplexity = (value: Value): string =>
    known(value) ? plain(value, value < 100 ? 2 : value < 1000 ? 1 : 0) : special(value)
export const percent = (fraction: Value, digits = 0): string =>
    known(fraction) ? `${plain(100 * fraction, digits)} %` : special(fraction)
export const change = (fraction: Value, digits = 1): string =>
    known(fraction) ? `${signed(100 * fraction, digits)} %` : special(fraction)
export const ratio = (value: Value): string => `${plain(value, 2)}×`
export const plural = (count: number, noun: string): string =>
    `${grouped(count, 0)} ${noun}${count === 1 ? '' : 's'}`

export function between(low: Value, high: Value, digits = 3, sign = false): string {
    if (low === null || low === undefined || high === null || high === undefined) return ''
    if (sign || low < 0) {
        const write = sign ? signed : plain
        return `${write(low, digits)} to ${write(high, digits)}`
    }
    return `${plain(low, digits)}–${plain(high, digits)}`
}

export function duration(seconds: Value): string {
    if (!known(seconds)) return special(seconds)
    if (seconds > 0 && seconds < 9.95) return `${seconds.toFixed(1)} s`
    const whole = Math.max(Math.round(seconds), 0)
    const [s, m, h, d] = [
        whole % 60,
        Math.floor(whole / 60) % 60,
        Math.floor(whole / 3600) % 24,
        Math.floor(whole / 86400),
    ]
    const two = (value: number) => String(value).padStart(2, '0')
    if (d) return `${d} d ${h} h`
    if (h) return `${h} h ${two(m)} min`
    return m ? `${m} min ${two(s)} s` : `${s} s`
}

export function clock(seconds: number): string {
    const whole = Math.floor(seconds)
    const two = (value: number) => String(value).padStart(2, '0')
    const [s, m, h] = [whole % 60, Math.floor(whole / 60) % 60, Math.floor(whole / 3600)]
    return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`
}

/** A whole number with its thousands: a step, a count. */
export const whole = (value: Value): string => (known(value) ? grouped(Math.round(value), 0) : special(value))

/** Three digits with a decimal prefix: `3.15 M`, `8,192`. */
export function scaled(value: Value, unit = ''): string {
    if (!known(value)) return special(value)
    if (Math.abs(value) < 10_000) return `${plain(value, 0)} ${unit}`.trimEnd()
    const [size, prefix] = (
        [
            [1e12, 'T'],
            [1e9, 'G'],
            [1e6, 'M'],
            [1e3, 'k'],
        ] as const
    ).find(([one]) => Math.abs(value) >= 0.9995 * one)!
    return `${significant(value / size)} ${prefix}${unit}`
}

/** How long ago, in one unit: `now`, `41 s ago`, `3 min ago`, `2 h ago`, `5 d ago`. */
export function ago(seconds: number): string {
    if (!(seconds >= 2)) return 'now'
    if (seconds < 90) return `${Math.round(seconds)} s ago`
    if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`
    return seconds < 129_600 ? `${Math.round(seconds / 3600)} h ago` : `${Math.round(seconds / 86400)} d ago`
}
