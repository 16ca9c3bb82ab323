/** The map of one layer's points, as ECharts is told: the same on the screen and in a saved picture. */
import type { Ink } from '../canvas/ink.svelte'
import { FONT, type EChartsCoreOption } from '../charts/echarts'
import { roundStep, tickText } from '../charts/scale'
import { cssOf, sequence } from '../model/colour'
import {
    coordinatesAt,
    evenFrame,
    frameOf,
    hexagons,
    pointName,
    trailOf,
    type Frame,
    type Pair,
} from '../model/embeddings'
import { percent } from '../model/format'
import type { Space } from '../model/types'

export const MARGIN = { left: 12, right: 12, top: 8, bottom: 12 }
export const DENSE = 500 // points from which on they are counted rather than drawn
const HEXAGON = 9

export interface MapSpec {
    space: Space
    layer: number
    moment: number
    /** Frames the middle 98 %; the others stand at the edge. */
    middle: boolean
    density: boolean
    /** Points of this group stand out; null: none does. */
    group: number | null
    movers: number[]
    chosen: number | null
}
export interface Box {
    width: number
    height: number
    margin: typeof MARGIN
}
export interface Plan {
    frame: Frame
    /** Where each point is now, in pixels of the whole picture; NaN: not recorded. */
    now: Pair[]
    before: Pair[]
    outside: number
    toPixel: (place: Pair) => Pair
}

export function planOf(spec: MapSpec, { width, height, margin }: Box): Plan | null {
    const found = frameOf(spec.space, spec.layer, spec.middle)
    if (!found) return null
    const [wide, high] = [width - margin.left - margin.right, height - margin.top - margin.bottom]
    const frame = evenFrame(found, wide, high)
    const kept = (value: number, [low, top]: Pair) => Math.min(Math.max(value, low), top)
    const toPixel = ([x, y]: Pair): Pair => [
        margin.left + ((kept(x, frame.x) - frame.x[0]) / (frame.x[1] - frame.x[0])) * wide,
        margin.top + (1 - (kept(y, frame.y) - frame.y[0]) / (frame.y[1] - frame.y[0])) * high,
    ]
    const pairs = (moment: number): Pair[] => {
        const places = coordinatesAt(spec.space, moment, spec.layer)
        return Array.from({ length: places.length >> 1 }, (_, at) => [places[2 * at]!, places[2 * at + 1]!])
    }
    const now = pairs(spec.moment)
    const outside = now.filter(
        ([x, y]) => x < frame.x[0] || x > frame.x[1] || y < frame.y[0] || y > frame.y[1],
    ).length
    return { frame, now: now.map(toPixel), before: pairs(0).map(toPixel), outside, toPixel }
}

export const axisName = (space: Space, layer: number, axis: 0 | 1): string => {
    const share = space.explained_variance.data[2 * layer + axis]
    const known = share !== undefined && Number.isFinite(share)
    return `PC ${axis + 1}${known ? `, ${percent(share)} of the baseline’s variance` : ''}`
}

export function mapOption(spec: MapSpec, plan: Plan, box: Box, ink: Ink): EChartsCoreOption {
    const axis = ([min, max]: Pair, size: number) => {
        const step = roundStep(max - min, Math.max(2, size / 110))
        const ticks = []
        for (let at = Math.ceil(min / step); at * step <= max; at++) ticks.push(at * step)
        return {
            type: 'value',
            min,
            max,
            axisLine: { show: false },
            axisTick: { show: false, customValues: ticks },
            axisLabel: {
                inside: true,
                margin: 3,
                customValues: ticks,
                formatter: (tick: number) => tickText(tick, step),
                color: ink.muted,
                fontSize: 10,
                fontFamily: FONT,
                hideOverlap: true,
            },
            splitLine: { show: true, lineStyle: { color: ink.line, opacity: 0.6 } },
        }
    }
    return {
        animation: false,
        grid: { ...box.margin, outerBoundsMode: 'none' },
        xAxis: [axis(plan.frame.x, box.width)],
        yAxis: [axis(plan.frame.y, box.height)],
        series: [
            {
                type: 'custom',
                silent: true,
                z: 5,
                data: [[0, 0]],
                renderItem: () => ({ type: 'group', children: shapes(spec, plan, ink) }),
            },
        ],
    }
}

const finite = ([x, y]: Pair): boolean => Number.isFinite(x + y)

function shapes(spec: MapSpec, plan: Plan, ink: Ink): object[] {
    const crowd = spec.density ? density(plan.now, ink) : cloud(spec, plan, ink)
    const trails = [...spec.movers].reverse().flatMap((point) => trail(spec, plan, point, ink))
    const { chosen } = spec
    return [...crowd, ...trails, ...(chosen === null ? [] : trail(spec, plan, chosen, ink, true))]
}

function density(now: Pair[], ink: Ink): object[] {
    const bins = hexagons(now, HEXAGON)
    const most = Math.max(1, ...bins.map((one) => one.count))
    const corners = Array.from({ length: 6 }, (_, at): Pair => {
        const angle = (Math.PI / 3) * at + Math.PI / 6
        return [(HEXAGON - 0.4) * Math.cos(angle), (HEXAGON - 0.4) * Math.sin(angle)]
    })
    return bins.map(({ x, y, count }) => ({
        type: 'polygon',
        shape: { points: corners.map(([dx, dy]) => [x + dx, y + dy]) },
        style: { fill: densityColour(count, most, ink.dark), stroke: ink.panel, lineWidth: 0.5 },
    }))
}
/** The palest step is left out, so that one point is seen on white. */
export const densityColour = (count: number, most: number, dark: boolean): string =>
    cssOf(sequence(dark)[Math.round(40 + (215 * Math.log(count)) / Math.max(Math.log(most), 0.01))]!)

/** Every point: where it was, where it is, and a line between. */
function cloud(spec: MapSpec, plan: Plan, ink: Ink): object[] {
    const found: object[] = []
    const near = spec.space.groups.data
    const picked = (at: number) => spec.group !== null && near[at] === spec.group
    const faded = spec.group !== null
    if (spec.moment > 0)
        plan.now.forEach((to, at) => {
            const from = plan.before[at]
            if (!from || !finite(from) || !finite(to)) return
            const colour = picked(at) ? ink.accent : ink.muted
            const opacity = picked(at) ? 0.6 : faded ? 0.12 : 0.35
            found.push(
                line([from, to], colour, 1, opacity),
                dot(from, 1.75, { fill: ink.panel, stroke: colour, lineWidth: 1, opacity }),
            )
        })
    plan.now.forEach((to, at) => {
        if (!finite(to)) return
        const opacity = picked(at) ? 1 : faded ? 0.25 : 0.75
        found.push(dot(to, picked(at) ? 3.5 : 2.75, { fill: picked(at) ? ink.accent : ink.muted, opacity }))
    })
    return found
}

/** A point's way through the looks: a ring where it began, a dot at each look, its number or its name at the end. */
function trail(spec: MapSpec, plan: Plan, point: number, ink: Ink, chosen = false): object[] {
    const places = trailOf(spec.space, spec.layer, point, spec.moment).map(plan.toPixel)
    const end = places.at(-1)
    if (!end) return []
    const colour = chosen ? ink.accent : ink.ink
    const rank = spec.movers.indexOf(point)
    const label = chosen ? pointName(spec.space, point) : String(rank + 1)
    return [
        line(places, ink.panel, 4.5, 0.9),
        line(places, colour, chosen ? 2 : 1.25, 1),
        ...places.slice(1, -1).map((at) => dot(at, 2, { fill: colour })),
        ...(places.length > 1
            ? [dot(places[0]!, 2.5, { fill: ink.panel, stroke: colour, lineWidth: 1.25 })]
            : []),
        dot(end, chosen ? 4.5 : 3.5, { fill: colour, stroke: ink.panel, lineWidth: 1 }),
        {
            type: 'text',
            x: end[0] + 6,
            y: Math.max(end[1] - 6, 14),
            style: {
                text: label,
                fill: colour,
                stroke: ink.panel,
                lineWidth: 3,
                fontFamily: FONT,
                fontSize: 11,
                fontWeight: 600,
                verticalAlign: 'middle',
            },
        },
    ]
}
const line = (points: Pair[], stroke: string, lineWidth: number, opacity: number) => ({
    type: 'polyline',
    shape: { points },
    style: { stroke, lineWidth, opacity, fill: 'none' },
})
const dot = ([cx, cy]: Pair, r: number, style: object) => ({ type: 'circle', shape: { cx, cy, r }, style })

/** Every place of every point in this layer's plane: for the CSV. */
export function mapTable(space: Space, layer: number): (string | number)[][] {
    const rows: (string | number)[][] = [['point', 'label', 'text', 'cycle', 'step', 'pc1', 'pc2']]
    for (let moment = 0; moment < space.steps.data.length; moment++) {
        const places = coordinatesAt(space, moment, layer)
        for (let at = 0; 2 * at < places.length; at++)
            rows.push([
                at,
                space.labels[at] ?? '',
                space.group_names[space.groups.data[at] ?? -1] ?? '',
                space.cycles.data[moment]!,
                space.steps.data[moment]!,
                places[2 * at]!,
                places[2 * at + 1]!,
            ])
    }
    return rows
}
