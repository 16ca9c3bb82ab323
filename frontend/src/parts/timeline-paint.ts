/** Paints the timeline: event labels, phase bands, the loss, steps. */
import { FONT } from '../charts/echarts'
import { stepScale } from '../charts/scale'
import { keptIndices } from '../model/downsample'
import { MARKS, phaseColour, phaseLabel } from '../model/palette'
import { inks, legible } from '../model/theme.svelte'
import type { Series, Timeline } from '../model/types'
import { GLYPHS, layLabels, reaching } from './timeline'

export const MARGIN = { left: 16, right: 16 }
const LANE = 15
const BAND = 18
const WORDS = 14 // cycles by name, on a row of their own, so that no curve crosses them
const LOSS = 36
const AXIS = 18

export interface Sizes {
    width: number
    dark: boolean
    last: number
}

export const lanesOf = (timeline: Timeline): number => (timeline.marks.length > 1 ? 2 : 1)
export const bandTop = (timeline: Timeline): number => lanesOf(timeline) * LANE + 2
const lossTop = (timeline: Timeline): number =>
    bandTop(timeline) + BAND + (timeline.boundaries.length ? WORDS : 4)
const lossBottom = (timeline: Timeline): number => lossTop(timeline) + LOSS
export const heightOf = (timeline: Timeline): number => lossBottom(timeline) + AXIS

export function paint(
    context: CanvasRenderingContext2D,
    timeline: Timeline,
    { width, dark, last }: Sizes,
): void {
    const ink = inks(dark)
    const height = heightOf(timeline)
    const top = bandTop(timeline)
    const bottom = lossBottom(timeline)
    const wide = width - MARGIN.left - MARGIN.right
    const length = Math.max(last - timeline.first, 1)
    const place = (step: number) => MARGIN.left + ((step - timeline.first) / length) * wide
    context.clearRect(0, 0, width, height)
    context.font = `11px ${FONT}`
    context.textBaseline = 'middle'

    bands()
    for (const one of timeline.boundaries) boundary(one.step, one.cycle)
    loss(timeline, context, place, [lossTop(timeline), bottom - 3], dark, wide)
    marks()
    axis()

    function bands() {
        const spans = reaching(timeline.spans)
        spans.forEach((span, at) => {
            const open = at === spans.length - 1
            const left = place(span.first_step)
            const right = Math.max(place(open ? last : span.last_step), left + 1)
            const colour = phaseColour(span.phase)
            context.globalAlpha = dark ? 0.16 : 0.12
            context.fillStyle = colour
            context.fillRect(left, top + BAND, right - left, bottom - top - BAND)
            context.globalAlpha = 1
            context.fillRect(left, top, right - left, BAND)
            context.fillStyle = ink.paper
            context.fillRect(right - 0.5, top, 0.5, BAND)
            const label = phaseLabel(span.phase)
            context.font = `600 11px ${FONT}`
            if (context.measureText(label).width < right - left - 8) {
                context.fillStyle = '#101010' // every phase colour is light enough for it
                context.fillText(label, left + 5, top + BAND / 2 + 0.5)
            }
            context.font = `11px ${FONT}`
        })
    }
    function boundary(step: number, cycle: number) {
        const x = Math.round(place(step)) + 0.5
        context.strokeStyle = ink.ink
        context.setLineDash([2, 3])
        line(context, x, top + BAND, bottom)
        context.setLineDash([])
        const text = `cycle ${cycle}`
        const next = timeline.boundaries.find((one) => one.step > step)
        const room = (next ? place(next.step) : width - MARGIN.right) - x
        if (context.measureText(text).width + 8 > room) return
        context.fillStyle = ink.muted
        context.fillText(text, x + 4, top + BAND + WORDS / 2 + 0.5)
    }
    function marks() {
        const lanes = lanesOf(timeline)
        for (const mark of timeline.marks) {
            context.strokeStyle = legible(MARKS[mark.kind] ?? ink.muted, dark)
            line(context, Math.round(place(mark.step)) + 0.5, top, bottom)
        }
        const widthOf = (text: string) => context.measureText(text).width + 12
        for (const one of layLabels(
            timeline.marks,
            place,
            widthOf,
            [MARGIN.left, width - MARGIN.right],
            lanes,
        )) {
            const kind = one.kinds[0]!
            const y = top - 2 - LANE * one.lane - LANE / 2
            context.fillStyle = legible(MARKS[kind] ?? ink.muted, dark)
            context.fillText(GLYPHS[kind] ?? '•', one.left, y)
            context.fillStyle = ink.ink
            context.fillText(one.text, one.left + 12, y)
        }
    }
    function axis() {
        context.fillStyle = ink.muted
        context.textAlign = 'center'
        const scale = stepScale(timeline.first, timeline.first + length, Math.max(2, wide / 120))
        for (const tick of scale.ticks) {
            const text = tick === scale.ticks[0] ? `step ${scale.label(tick)}` : scale.label(tick)
            const half = context.measureText(text).width / 2
            const x = Math.min(Math.max(place(tick), MARGIN.left + half), width - MARGIN.right - half)
            context.fillText(text, x, bottom + AXIS / 2)
        }
        context.textAlign = 'start'
    }
}

function line(context: CanvasRenderingContext2D, x: number, from: number, to: number): void {
    context.beginPath()
    context.moveTo(x, from)
    context.lineTo(x, to)
    context.stroke()
}

/** The training loss, raw and pale behind its smoothed pieces, and the validation loss; one range for all of them. */
function loss(
    timeline: Timeline,
    context: CanvasRenderingContext2D,
    place: (step: number) => number,
    [top, bottom]: [number, number],
    dark: boolean,
    wide: number,
): void {
    const all = [...timeline.series, ...timeline.smooth]
    let low = Infinity
    let high = -Infinity
    for (const one of all)
        for (const value of one.values.data)
            if (Number.isFinite(value)) {
                if (value < low) low = value
                if (value > high) high = value
            }
    if (!(low <= high)) return
    // One spike must not flatten all the rest: a wide range is drawn by its logarithm.
    const scaled = low > 0 && high > 8 * low ? Math.log : (value: number) => value
    const range = scaled(high) - scaled(low) || 1
    const y = (value: number) => bottom - ((scaled(value) - scaled(low)) / range) * (bottom - top)
    const draw = (series: Series, colour: string, width: number, alpha: number) => {
        const { steps, values } = series
        const count = steps.data.length
        if (!count) return
        context.strokeStyle = legible(colour, dark)
        context.lineWidth = width
        context.globalAlpha = alpha
        context.beginPath()
        let pen = false
        for (const at of keptIndices(steps.data, values.data, steps.data[0]!, steps.data[count - 1]!, wide)) {
            const value = values.data[at]!
            if (!Number.isFinite(value)) pen = false
            else if (pen) context.lineTo(place(steps.data[at]!), y(value))
            else {
                context.moveTo(place(steps.data[at]!), y(value))
                pen = true
            }
        }
        context.stroke()
        context.globalAlpha = 1
        context.lineWidth = 1
    }
    for (const one of timeline.series)
        if (one.name === 'loss') draw(one, '#0072B2', 1, timeline.smooth.length ? 0.35 : 1)
        else draw(one, '#D55E00', 1.25, 0.9)
    for (const one of timeline.smooth) draw(one, '#0072B2', 1.5, 1)
}
