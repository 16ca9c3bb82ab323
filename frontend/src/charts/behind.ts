/** What lies behind a chart's curves: phases, decisions, shaded stretches, reference values. */
import { MARKS, phaseColour } from '../model/palette'
import { inks, legible } from '../model/theme.svelte'
import type { Look } from './options'
import type { Prepared } from './prepare'
import type { LineSpec, Reference } from './spec'

export interface Api {
    coord(point: [number, number]): [number, number]
}
interface Params {
    coordSys: { x: number; y: number; width: number; height: number }
}
interface Text {
    color: string
    fontSize: number
    fontFamily: string
}
interface Place {
    left: number
    top: number
    width: number
    api: Api
    text: Text
    colour: string
}
const stroke = (colour: string, opacity: number, lineDash?: number[]) => ({
    stroke: colour,
    opacity,
    lineWidth: 1,
    fill: 'none',
    ...(lineDash ? { lineDash } : {}),
})
type Stroke = ReturnType<typeof stroke>

/**
 * Phase bands, cycle boundaries, decisions, shaded stretches and reference values: one custom series, since mark areas
 * and mark lines cost as much as the curves do, and a chart that is zoomed is drawn at every frame.
 */
export function behind(spec: LineSpec, { axis, window, x, log }: Prepared, look: Look, text: Text): object {
    const ink = inks(look.dark)
    const time = spec.context ? look.timeline : null
    const pixel = (x.max - x.min) / Math.max(look.width, 1)
    const bands: { from: number; to: number; fill: string; opacity: number }[] = []
    const uprights: { x: number; style: Stroke }[] = []
    const inside = (step: number) => step >= window[0] && step <= window[1]
    const band = (first: number, last: number, fill: string, opacity: number) => {
        const from = axis.at(Math.max(first, window[0]))
        const to = axis.at(Math.min(last, window[1]))
        if (to - from >= pixel * 0.5) bands.push({ from, to, fill, opacity })
    }
    time?.spans.forEach((span, at) => {
        const last = time.spans[at + 1]?.first_step ?? Infinity // what goes on reaches as far as there are steps
        band(span.first_step, Math.max(last, span.last_step), phaseColour(span.phase), look.dark ? 0.14 : 0.1)
    })
    for (const one of spec.shades ?? []) band(one.first, one.last, one.colour, 0.22)
    if (time) {
        for (const one of spaced(time.boundaries, axis.at, pixel))
            if (inside(one.step))
                uprights.push({
                    x: axis.at(one.step),
                    style: stroke(ink.muted, 0.6, [1, 2]),
                })
        for (const one of spaced(time.marks, axis.at, pixel))
            if (inside(one.step)) {
                const colour = legible(MARKS[one.kind] ?? ink.muted, look.dark)
                uprights.push({ x: axis.at(one.step), style: stroke(colour, 0.75) })
            }
    }
    const named = (spec.uprights ?? []).filter(({ at }) => inside(at))
    const levels = (spec.references ?? []).filter(
        (one) => Number.isFinite(one.value) && (!log || one.value > 0),
    )
    return {
        id: 'behind',
        type: 'custom',
        silent: true,
        clip: true,
        z: 1,
        data: [[0, 0]],
        renderItem: ({ coordSys: { x: left, y: top, width, height } }: Params, api: Api) => {
            const across = (at: number) => api.coord([at, 0])[0]
            return {
                type: 'group',
                children: [
                    ...bands.map(({ from, to, ...style }) => ({
                        type: 'rect',
                        shape: {
                            x: across(from),
                            y: top,
                            width: across(to) - across(from),
                            height,
                        },
                        style,
                    })),
                    ...uprights.map(({ x: at, style }) => ({
                        type: 'line',
                        shape: {
                            x1: across(at),
                            y1: top,
                            x2: across(at),
                            y2: top + height,
                            subPixelOptimize: true,
                        },
                        style,
                    })),
                    ...named.flatMap((one) => {
                        const x = across(axis.at(one.at))
                        const right = x < left + width / 2
                        const lying = { x1: x, y1: top, x2: x, y2: top + height, subPixelOptimize: true }
                        return [
                            { type: 'line', shape: lying, style: stroke(ink.muted, 1, [2, 3]) },
                            written(
                                one.label,
                                x + (right ? 5 : -5),
                                top + 2,
                                right ? 'left' : 'right',
                                'top',
                                text,
                            ),
                        ]
                    }),
                    ...levels.flatMap((one) =>
                        level(one, levels, log, { left, top, width, api, text, colour: ink.muted }),
                    ),
                ],
            }
        },
    }
}

/** A reference value: a dashed line over the whole width, named at its right end. */
function level(
    one: Reference,
    all: Reference[],
    log: boolean,
    { left, top, width, api, text, colour }: Place,
): object[] {
    const heightOf = ({ value }: Reference) => api.coord([0, log ? Math.log10(value) : value])[1]
    const y = heightOf(one)
    // Below its line where there is no room above it: at the top, or close under a line that is named there.
    const crowded = all.some((other) => other.label && heightOf(other) < y && y - heightOf(other) < 32)
    const above = y - top > 18 && !crowded
    return [
        {
            type: 'line',
            shape: {
                x1: left,
                y1: y,
                x2: left + width,
                y2: y,
                subPixelOptimize: true,
            },
            style: stroke(colour, 1, [4, 3]),
        },
        written(one.label, left + width - 4, above ? y - 4 : y + 4, 'right', above ? 'bottom' : 'top', text),
    ]
}

const written = (label: string, x: number, y: number, align: string, verticalAlign: string, text: Text) => ({
    type: 'text',
    x,
    y,
    style: {
        text: label,
        align,
        verticalAlign,
        fill: text.color,
        fontSize: text.fontSize,
        fontFamily: text.fontFamily,
    },
})

/** Marks closer together than two pixels are one line. */
function spaced<T extends { step: number }>(marks: T[], at: (step: number) => number, pixel: number): T[] {
    let last = -Infinity
    return marks.filter((one) => {
        const here = at(one.step)
        if (here - last < 2 * pixel) return false
        last = here
        return true
    })
}
