/** From what was prepared to what ECharts is told. */
import { inks, legible } from '../model/theme.svelte'
import type { Timeline } from '../model/types'
import { behind, type Api } from './behind'
import { FONT, type EChartsCoreOption } from './echarts'
import type { DrawnLine, Prepared } from './prepare'
import type { LineSpec } from './spec'

export const MARGIN = { left: 48, right: 12, top: 6, bottom: 22 }
const BAND_FROM = 60 // intervals: bars for a few points, a band for many

const UNIT_AXIS = { type: 'value', min: 0, max: 1, show: false }

export interface Look {
    dark: boolean
    width: number
    margin: typeof MARGIN
    timeline: Timeline | null
}

export function lineOption(spec: LineSpec, drawn: Prepared, look: Look): EChartsCoreOption {
    const ink = inks(look.dark)
    const text = { color: ink.muted, fontSize: 11, fontFamily: FONT }
    const { x, y } = drawn
    const odd = drawn.lines.some((one) => one.odd.length)
    return {
        animation: false,
        grid: { ...look.margin, outerBoundsMode: 'none' },
        xAxis: [axisOption(x, text, ink, false, lastFits(x, look)), ...(odd ? [UNIT_AXIS] : [])],
        yAxis: [axisOption(y, text, ink, true), ...(odd ? [UNIT_AXIS] : [])],
        series: [
            behind(spec, drawn, look, text),
            ...drawn.lines.flatMap((one, at) => seriesOf(one, at, look.dark)),
            ...(odd ? [oddSeries(drawn, ink.bad)] : []),
        ],
    }
}

type Ink = ReturnType<typeof inks>
function axisOption(scale: Prepared['x'], text: object, ink: Ink, isY: boolean, fits = true) {
    return {
        type: 'value',
        min: scale.min,
        max: scale.max,
        axisLine: { show: !isY, onZero: false, lineStyle: { color: ink.line } },
        axisTick: {
            show: !isY,
            customValues: scale.ticks,
            lineStyle: { color: ink.line },
            length: 4,
        },
        axisLabel: {
            ...text,
            margin: isY ? 6 : 7,
            customValues: scale.ticks,
            formatter: scale.label,
            hideOverlap: !isY,
            ...(fits ? {} : { alignMaxLabel: 'right' }),
        },
        splitLine: { show: isY, lineStyle: { color: ink.grid } },
        axisPointer: { show: false },
    }
}

/** Whether the last label, centred under its tick, stays within the chart. */
function lastFits(x: Prepared['x'], look: Look): boolean {
    const tick = x.ticks.at(-1)
    if (tick === undefined) return true
    const room = ((x.max - tick) / (x.max - x.min)) * look.width + look.margin.right
    return room >= x.label(tick).length * 3.4
}

function seriesOf({ line, xy, interval, here }: DrawnLine, at: number, dark: boolean): object[] {
    const colour = legible(line.colour, dark)
    const series: object = {
        id: `line ${at}`,
        type: 'line',
        name: line.label,
        data: xy,
        dimensions: ['x', 'y'],
        showSymbol: (line.points ?? false) || here < 3,
        symbol: 'circle',
        symbolSize: 5,
        silent: true,
        step: line.stepped ? 'end' : false,
        emphasis: { disabled: true },
        z: line.faint ? 2 : 4 + at,
        itemStyle: { color: colour },
        lineStyle: {
            color: colour,
            width: line.width ?? (line.faint ? 1 : 1.5),
            type: line.dash ?? 'solid',
            opacity: line.faint ? 0.35 : 1,
            join: 'round',
        },
    }
    return interval ? [intervalSeries(interval, colour, at), series] : [series]
}

function intervalSeries(points: Float64Array, colour: string, at: number): object {
    const count = points.length / 3
    const of = (api: Api, index: number, which: 1 | 2) =>
        api.coord([points[3 * index]!, points[3 * index + which]!])
    const every = Array.from({ length: count }, (_, index) => index)
    const band = (api: Api) => ({
        type: 'polygon',
        shape: {
            points: [
                ...every.map((index) => of(api, index, 1)),
                ...every.reverse().map((index) => of(api, index, 2)),
            ],
        },
        style: { fill: colour, opacity: 0.18 },
    })
    const bars = (api: Api) => ({
        type: 'group',
        children: every.map((index) => {
            const [[x, low], [, high]] = [of(api, index, 1), of(api, index, 2)]
            return {
                type: 'path',
                shape: {
                    pathData: `M${x} ${low}V${high}M${x - 3} ${low}h6M${x - 3} ${high}h6`,
                },
                style: { stroke: colour, fill: 'none', lineWidth: 1.25 },
            }
        }),
    })
    return {
        id: `interval ${at}`,
        type: 'custom',
        silent: true,
        clip: true,
        z: 3,
        data: [[points[0], points[1]]],
        renderItem: (_: unknown, api: Api) => (count > BAND_FROM ? band(api) : bars(api)),
    }
}

/** NaN and infinities: triangles at the edge that they left by. */
function oddSeries(drawn: Prepared, colour: string): object {
    const span = drawn.x.max - drawn.x.min
    const seen = new Set<string>()
    const data = drawn.lines.flatMap(({ odd }) =>
        odd.flatMap(({ x, kind }) => {
            const share = (x - drawn.x.min) / span
            const key = `${kind} ${Math.round(share * 400)}`
            if (seen.has(key)) return []
            seen.add(key)
            return [
                {
                    value: [share, kind === 'above' ? 1 : 0],
                    symbolRotate: kind === 'below' ? 180 : 0,
                },
            ]
        }),
    )
    return {
        id: 'odd',
        type: 'scatter',
        xAxisIndex: 1,
        yAxisIndex: 1,
        symbol: 'triangle',
        symbolSize: 8,
        silent: true,
        clip: false,
        z: 20,
        itemStyle: { color: colour },
        data,
    }
}
