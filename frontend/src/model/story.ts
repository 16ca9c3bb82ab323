/** Sentences and plain rows that the story panels show, made of the document and of nothing else. */
import { between, percent, plain, plural, signed, significant } from './format'
import type {
    AllSamples,
    Cycle,
    Log,
    Measured,
    Recovery,
    Returned,
    Setting,
    Stable,
    State,
    Warmup,
} from './types'

/** A per cent sign stays with its number. */
export const unbroken = (text: string): string => text.replace(/ (?=%)|(?<=±) /g, '\u00a0')
const lower = (text: string) => text.charAt(0).toLowerCase() + text.slice(1)
const upper = (text: string) => text.charAt(0).toUpperCase() + text.slice(1)
/** A sentence of its own: capital letter, one full stop. */
export const sentence = (text: string): string => {
    const trimmed = text.trim()
    return trimmed ? unbroken(upper(/[.!?…]$/.test(trimmed) ? trimmed : `${trimmed}.`)) : ''
}
export const step = (value: number): string => plain(value, 0)

const finite = (...values: (number | null | undefined)[]) =>
    values.every((value) => value !== null && value !== undefined && Number.isFinite(value))

/** What an empty panel says: what will come while the run goes on, that nothing came once it is over. */
export const emptySaid = (
    state: State | undefined,
    recorded: string | null | undefined,
    coming: string,
): string => (state === 'running' || !recorded ? coming : recorded)

// ---- warm-up

/** Why the loss was called stable, from the slope and its interval. */
export function stableWhy(one: Stable): string {
    if (!finite(one.slope, one.slope_low, one.slope_high) || !(one.tolerance > 0))
        return sentence(one.reason) || 'No slope was recorded with it.'
    const inside = one.slope_low >= -one.tolerance && one.slope_high <= one.tolerance
    return (
        `Slope ${signedSignificant(one.slope)} per step, 95 % interval ${signedSignificant(one.slope_low)} to ` +
        `${signedSignificant(one.slope_high)}: ${inside ? 'all of it inside' : 'not inside'} the tolerance of ` +
        `± ${significant(one.tolerance, 2)}.`
    )
}
export const signedSignificant = (value: number): string =>
    value >= 0 ? `+${significant(value, 2)}` : significant(value, 2)

/** Headline of the warm-up: how it ended. */
export function warmupHeadline(view: Warmup, state: State = 'running'): string {
    const last = view.stable.at(-1)
    if (last) return `Loss called stable at step ${step(last.step)}`
    if (view.end === 'still running') {
        if (state === 'running') return 'Warm-up is running; the loss is not stable yet'
        return `Not called stable before the run ${state === 'stale' ? 'was last heard of' : 'ended'}`
    }
    return view.end ? `Not called stable: ${lower(view.end)}` : 'Not called stable'
}

// ---- fine-tuning

/** Share of the loss that pruning cost and fine-tuning brought back; null where pruning cost nothing or is unknown. */
export function recoveredShare(one: {
    loss_before: number | null
    loss_pruned: number | null
    loss_after: number | null
    recovered?: number | null
}): number | null {
    if (one.recovered !== undefined && one.recovered !== null) return one.recovered
    const { loss_before: before, loss_pruned: pruned, loss_after: after } = one
    if (before === null || pruned === null || after === null) return null
    return pruned > before ? (pruned - after) / (pruned - before) : null
}

export function recoveryHeadline(one: Recovery): string {
    const share = recoveredShare(one)
    if (share !== null && Number.isFinite(share)) {
        if (share > 1) return `Recovered all that pruning cost and more (${percent(share)})`
        if (share < 0) return `Recovered nothing: the loss rose further (${percent(share)})`
        return `Recovered ${percent(share)} of what pruning cost`
    }
    const { loss_before: before, loss_pruned: pruned, loss_after: after } = one
    if (before !== null && pruned !== null && pruned <= before) return 'Pruning cost nothing to recover'
    if (pruned !== null && after === null) return 'Recovering; its result is not measured yet'
    return 'What pruning cost was not measured'
}

/** Loss before, right after pruning, and after fine-tuning, with what each step changed. */
export function lossPath(before: number | null, pruned: number | null, after: number | null): string {
    const said = [plain(before)]
    said.push(`${plain(pruned)}${finite(before, pruned) ? ` (${signed(pruned! - before!)})` : ''}`)
    said.push(`${plain(after)}${finite(pruned, after) ? ` (${signed(after! - pruned!)})` : ''}`)
    return said.join(' → ')
}

// ---- cycles

export const measured = (one: Measured | null, write: (value: number | null) => string): string =>
    one === null ? '–' : write(one.value)
export const interval = (one: Measured | null, write: (value: number | null) => string): string =>
    one === null || one.low === null || one.high === null ? '' : `${write(one.low)}–${write(one.high)}`
export const signedInterval = (one: Measured | null): string =>
    one === null ? '' : between(one.low, one.high, 3, true)

/** What all cycles together did, in one or two sentences. */
export function cyclesHeadline(cycles: Cycle[], returned: Returned | null = null): string {
    const last = cycles.at(-1)
    if (!last) return ''
    if (returned) {
        const kept = cycles.find((one) => one.cycle === returned.to_cycle)
        const tried = `${plural(cycles.length, 'cycle')} tried; the model is that of `
        return kept
            ? `${tried}cycle ${kept.cycle}: ${plural(kept.heads_left, 'head')} left (sparsity ${percent(kept.sparsity, 1)}).`
            : `${tried}before any pruning.`
    }
    const pruned = cycles.reduce((sum, one) => sum + one.pruned, 0)
    const grown = cycles.reduce((sum, one) => sum + one.grown, 0)
    const came = grown ? `, ${plural(grown, 'head')} grown` : ''
    return (
        `${plural(cycles.length, 'cycle')}: ${plural(pruned, 'head')} pruned${came}, ` +
        `${plural(last.heads_left, 'head')} left (sparsity ${percent(last.sparsity, 1)}).`
    )
}

/** Whether an interval leaves zero out; null where there is none. */
export function clear(one: Measured | null): boolean | null {
    if (one === null || !finite(one.low, one.high)) return null
    return one.low! > 0 || one.high! < 0
}
export function impactSentence(one: Measured | null, other: string): string {
    if (one === null || !Number.isFinite(one.value)) return ''
    const known = clear(one)
    const evidence = known === null ? '' : `, 95 % interval ${signedInterval(one)}`
    if (known === null)
        return `Test loss against ${other}: ${signed(one.value)}, without an interval: no evidence of a difference.`
    if (!known) return `No measurable difference in test loss to ${other} (${signed(one.value)}${evidence}).`
    return `Measurably ${one.value > 0 ? 'higher' : 'lower'} test loss than ${other} (${signed(one.value)}${evidence}).`
}

// ---- samples

export type Sample = AllSamples['rows'][number]
export interface SampleFilter {
    prompt: string
    model: string
    phase: string
}
export const NO_FILTER: SampleFilter = { prompt: '', model: '', phase: '' }

/** Newest first, as far as they pass; each with its place in the record's order. */
export function chosenSamples(rows: Sample[], filter: SampleFilter): { sample: Sample; at: number }[] {
    const found = []
    for (let at = rows.length - 1; at >= 0; at--) {
        const sample = rows[at]!
        if (filter.prompt && sample.prompt !== filter.prompt) continue
        if (filter.model && sample.model !== filter.model) continue
        if (filter.phase && sample.phase !== filter.phase) continue
        found.push({ sample, at })
    }
    return found
}
export const distinct = (values: string[]): string[] => [...new Set(values)]

/** The figures that were recorded with the last sample of this prompt by this model. */
export function figuresOf(rows: Sample[], prompt: string, model: string): Record<string, number> {
    for (let at = rows.length - 1; at >= 0; at--)
        if (rows[at]!.prompt === prompt && rows[at]!.model === model) return rows[at]!.metrics
    return {}
}
export const shorten = (text: string, most: number): string => {
    const line = text.replace(/\s+/g, ' ').trim()
    const letters = [...line.slice(0, 2 * most)]
    return line.length > most
        ? `${letters
              .slice(0, most - 1)
              .join('')
              .trimEnd()}…`
        : line
}

// ---- settings

const PLAIN = /^[\w@%+=:,./-]+$/
const quoted = (word: string) => (PLAIN.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`)

/** The command that made the run, as a shell reads it; empty where the record has none. */
export function commandLine(settings: Setting[]): string {
    for (const { pairs } of settings) {
        const found = pairs.find(([name]) => name === 'command' || name === 'argv')
        if (!found) continue
        try {
            const parts: unknown = JSON.parse(found[1])
            if (Array.isArray(parts) && parts.every((one) => typeof one === 'string'))
                return parts.map(quoted).join(' ')
        } catch {
            return found[1]
        }
        return found[1]
    }
    return ''
}

/** Settings as JSON; values that read as JSON themselves are written as such. */
export function settingsJson(settings: Setting[]): string {
    const value = (text: string): unknown => {
        if (!/^[[{]|^-?\d/.test(text)) return text
        try {
            const parsed: unknown = JSON.parse(text)
            // A long number would lose digits on its way through a float.
            return typeof parsed === 'number' && String(parsed) !== text ? text : parsed
        } catch {
            return text
        }
    }
    const whole = settings.map(({ title, pairs }) => [
        title,
        Object.fromEntries(pairs.map(([name, text]) => [name, value(text)])),
    ])
    return JSON.stringify(Object.fromEntries(whole), null, 2)
}

export function filteredSettings(settings: Setting[], search: string): Setting[] {
    const wanted = search.trim().toLowerCase()
    if (!wanted) return settings
    return settings
        .map(({ title, pairs }) => ({
            title,
            pairs: pairs.filter(([name, value]) => `${name} ${value}`.toLowerCase().includes(wanted)),
        }))
        .filter(({ pairs }) => pairs.length)
}

// ---- log

export type LogLine = Log['lines'][number]
export const LEVELS = ['debug', 'info', 'warning', 'error']

/** Lines from this level on that contain the text; a level nobody knows counts as info. */
export function logLines(lines: LogLine[], least: string, search: string): LogLine[] {
    const wanted = search.trim().toLowerCase()
    const rank = (level: string) => (LEVELS.includes(level) ? LEVELS.indexOf(level) : 1)
    const from = rank(least)
    if (!from && !wanted) return lines
    return lines.filter(
        (line) => rank(line.level) >= from && (!wanted || line.message.toLowerCase().includes(wanted)),
    )
}

/** Time of day as 24 hours, local to the reader. */
export function clockTime(seconds: number): string {
    const at = new Date(seconds * 1000)
    if (Number.isNaN(at.getTime())) return '–'
    const two = (value: number) => String(value).padStart(2, '0')
    return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`
}
