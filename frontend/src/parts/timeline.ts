/** Where everything on the timeline lies; pure, so that it can be tested without a canvas. */
import { whole } from '../model/format'
import type { Mark, Span, Timeline } from '../model/types'

export interface Label {
    x: number
    left: number
    right: number
    text: string
    kinds: string[]
    lane: number
}

const NOUNS: Record<string, string> = {
    pruned: 'pruning',
    regrown: 'regrowth',
    added: 'addition',
    restored: 'return',
    stable: 'stable point',
}
export const GLYPHS: Record<string, string> = {
    pruned: '▼',
    regrown: '▲',
    added: '✚',
    restored: '↩',
    stable: '◆',
}

/** `7 pruned` for one mark, `3 prunings` or `2 prunings, stable` for several. */
export function mergedLabel(marks: Mark[]): string {
    if (marks.length === 1) return marks[0]!.short
    const kinds = [...new Set(marks.map((mark) => mark.kind))]
    return kinds
        .map((kind) => {
            const own = marks.filter((mark) => mark.kind === kind)
            const noun = NOUNS[kind] ?? kind
            return own.length === 1 ? own[0]!.short : `${whole(own.length)} ${noun}s`
        })
        .join(', ')
}

/** Labels of the marks in at most `lanes` rows; those that would overlap in all of them are merged. */
export function layLabels(
    marks: Mark[],
    place: (step: number) => number,
    widthOf: (text: string) => number,
    [from, to]: [number, number],
    lanes = 2,
): Label[] {
    const gap = 10
    let groups = marks.map((mark) => [mark])
    for (;;) {
        const ends = new Array<number>(lanes).fill(-Infinity)
        const labels: Label[] = []
        let clash = -1
        for (const [at, group] of groups.entries()) {
            const text = mergedLabel(group)
            const x = (place(group[0]!.step) + place(group.at(-1)!.step)) / 2
            const width = widthOf(text)
            const left = Math.max(from, Math.min(x - width / 2, to - width))
            const lane = ends.findIndex((end) => left >= end + gap)
            if (lane < 0) {
                clash = at
                break
            }
            ends[lane] = left + width
            const kinds = [...new Set(group.map((mark) => mark.kind))]
            labels.push({ x, left, right: left + width, text, kinds, lane })
        }
        if (clash < 0) return labels
        // The group that has no place joins the one before it.
        groups = [
            ...groups.slice(0, clash - 1),
            [...groups[clash - 1]!, ...groups[clash]!],
            ...groups.slice(clash + 1),
        ]
    }
}

/** Spans reach to the next one's beginning, so that the track has no holes. */
export const reaching = (spans: Span[]): Span[] =>
    spans.map((span, at) => ({
        ...span,
        last_step: Math.max(span.last_step, spans[at + 1]?.first_step ?? span.last_step),
    }))

/** Steps at which something happens, rising: where left and right go. */
export function eventSteps({ spans, marks, boundaries, first, last }: Timeline): number[] {
    const steps = [first, last, ...spans.map((one) => one.first_step), ...marks.map((one) => one.step)]
    return [...new Set([...steps, ...boundaries.map((one) => one.step)])].sort((a, b) => a - b)
}

export const nextEvent = (steps: number[], step: number, forward: boolean): number | undefined =>
    forward ? steps.find((one) => one > step) : steps.findLast((one) => one < step)

/** What is at a step, in words. */
export function placeSaid(timeline: Timeline, step: number, phaseLabel: (phase: string) => string): string {
    const span = timeline.spans.findLast((one) => one.first_step <= step)
    const here = timeline.marks.filter((mark) => mark.step === step).map((mark) => mark.label)
    const where =
        span && [phaseLabel(span.phase), span.cycle ? `cycle ${span.cycle}` : ''].filter(Boolean).join(', ')
    return [`step ${whole(step)}`, where, ...here].filter(Boolean).join('; ')
}
