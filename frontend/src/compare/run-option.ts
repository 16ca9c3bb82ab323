/** Lines of runs on one chart, as ECharts is told. */
import { FONT, type EChartsCoreOption } from '../charts/echarts'
import type { Scale } from '../charts/scale'
import { lowerBound, upperBound } from '../model/downsample'
import { inks, legible } from '../model/theme.svelte'
import type { Band } from './bands'
import { heightOf, MARGIN, type Frame, type RunChartSpec, type RunPlot } from './run-chart'

const THIN = 12 // lines: of more each is thin and pale

const finite = Number.isFinite

export function runOption(
    spec: RunChartSpec,
    frame: Frame,
    dark: boolean,
    margin = MARGIN,
): EChartsCoreOption {
    const ink = inks(dark)
    const text = { color: ink.muted, fontSize: 11, fontFamily: FONT }
    const many = spec.plots.length > THIN
    const banded = !!spec.bands?.length
    return {
        animation: false,
        grid: { ...margin, outerBoundsMode: 'none' },
        xAxis: [axis(frame.x, text, ink, false)],
        yAxis: [axis(frame.y, text, ink, true)],
        series: [
            ...(spec.reference === undefined ? [] : [reference(spec.reference, frame, ink.muted)]),
            ...spec.plots.flatMap((plot, at) =>
                lineSeries(plot, at, frame, legible(plot.colour, dark), ink.paper, many, banded),
            ),
            ...(spec.bands ?? []).flatMap((one, at) => bandSeries(one, at, frame, legible(one.colour, dark))),
            ...(spec.front?.x.length ? [frontSeries(spec.front, frame, ink.ink)] : []),
        ],
    }
}

/** The highlighted run, on a layer of its own: nothing else is drawn again for it. */
export function shownOption(
    spec: RunChartSpec,
    frame: Frame,
    run: number | null,
    dark: boolean,
): EChartsCoreOption {
    const plot = spec.plots.find((one) => one.run === run)
    const ink = inks(dark)
    const xy = plot ? points(plot, frame) : new Float64Array()
    const base = {
        type: 'line',
        data: xy,
        dimensions: ['x', 'y'],
        silent: true,
        clip: true,
        zlevel: 1,
        step: plot?.stepped ? 'end' : false,
        emphasis: { disabled: true },
    }
    const colour = plot ? legible(plot.colour, dark) : ink.ink
    return {
        series: [
            { ...base, id: 'shown, halo', showSymbol: false, lineStyle: { color: ink.paper, width: 6 } },
            {
                ...base,
                id: 'shown',
                showSymbol: !!plot && (plot.dots || xy.length < 6),
                symbol: 'circle',
                symbolSize: 9,
                itemStyle: { color: colour, borderColor: ink.ink, borderWidth: 1.5 },
                lineStyle: { color: colour, width: 3 },
            },
        ],
    }
}

function axis(scale: Scale, text: object, ink: ReturnType<typeof inks>, isY: boolean) {
    return {
        type: 'value',
        min: scale.min,
        max: scale.max,
        axisLine: { show: !isY, onZero: false, lineStyle: { color: ink.line } },
        axisTick: { show: !isY, customValues: scale.ticks, lineStyle: { color: ink.line }, length: 4 },
        axisLabel: {
            ...text,
            margin: 7,
            customValues: scale.ticks,
            formatter: scale.label,
            hideOverlap: true,
            ...(isY ? {} : { alignMaxLabel: 'right' }),
        },
        splitLine: { show: isY, lineStyle: { color: ink.grid } },
        axisPointer: { show: false },
    }
}

function points(plot: RunPlot, frame: Frame): Float64Array {
    // One point beyond each end, so that lines leave the window.
    const from = Math.max(lowerBound(plot.x, frame.x.min) - 1, 0)
    const to = Math.min(upperBound(plot.x, frame.x.max) + 1, plot.x.length)
    const xy = new Float64Array(Math.max(to - from, 0) * 2)
    for (let at = from; at < to; at++) {
        xy[2 * (at - from)] = plot.x[at]!
        const y = heightOf(frame, plot.y[at]!)
        xy[2 * (at - from) + 1] = finite(y) ? y : NaN
    }
    return xy
}

function lineSeries(
    plot: RunPlot,
    at: number,
    frame: Frame,
    colour: string,
    paper: string,
    many: boolean,
    banded: boolean,
): object[] {
    const opacity = banded ? 0.22 : many ? 0.55 : 1
    const line: object = {
        id: `run ${plot.run}`,
        type: 'line',
        name: plot.label,
        data: points(plot, frame),
        dimensions: ['x', 'y'],
        showSymbol: !plot.dots && plot.x.length < 3,
        symbol: 'circle',
        symbolSize: 5,
        silent: true,
        clip: true,
        step: plot.stepped ? 'end' : false,
        emphasis: { disabled: true },
        z: 3 + at,
        itemStyle: { color: colour },
        lineStyle: {
            color: colour,
            width: many ? 1 : plot.dots ? 1 : 1.75,
            opacity: plot.dots ? opacity * 0.6 : opacity,
        },
    }
    if (!plot.dots) return [line]
    const dots = {
        id: `dots ${plot.run}`,
        type: 'scatter',
        silent: true,
        clip: true,
        z: 200,
        symbolSize: many ? 5 : 8,
        emphasis: { disabled: true },
        data: Array.from(plot.x, (x, place) => ({
            value: [x, heightOf(frame, plot.y[place]!)],
            itemStyle: plot.hollow?.[place]
                ? { color: paper, borderColor: colour, borderWidth: 1.5 }
                : { color: colour, opacity: many ? 0.75 : 1 },
        })),
    }
    const whiskers = !many && plot.low ? [intervals(plot, frame, colour)] : []
    return [line, ...whiskers, dots]
}

interface Api {
    coord(point: [number, number]): [number, number]
}

function intervals(plot: RunPlot, frame: Frame, colour: string): object {
    const known = Array.from(plot.x, (_, at) => at).filter(
        (at) => finite(plot.low![at]!) && finite(plot.high![at]!),
    )
    return {
        id: `interval ${plot.run}`,
        type: 'custom',
        silent: true,
        clip: true,
        z: 190,
        data: known.length ? [[plot.x[0], heightOf(frame, plot.y[0]!)]] : [],
        renderItem: (_: unknown, api: Api) => ({
            type: 'group',
            children: known.map((at) => {
                const [x, low] = api.coord([plot.x[at]!, heightOf(frame, plot.low![at]!)])
                const [, high] = api.coord([plot.x[at]!, heightOf(frame, plot.high![at]!)])
                return {
                    type: 'path',
                    shape: { pathData: `M${x} ${low}V${high}M${x - 3} ${low}h6M${x - 3} ${high}h6` },
                    style: { stroke: colour, fill: 'none', lineWidth: 1 },
                }
            }),
        }),
    }
}

function bandSeries(
    { band, label }: { band: Band; label: string },
    at: number,
    frame: Frame,
    colour: string,
): object[] {
    const every = Array.from(band.x, (_, place) => place).filter((place) =>
        finite(heightOf(frame, band.low[place]!)),
    )
    const area = {
        id: `band ${at}`,
        type: 'custom',
        silent: true,
        clip: true,
        z: 250 + at,
        data: every.length ? [[band.x[0], heightOf(frame, band.middle[every[0]!]!)]] : [],
        renderItem: (_: unknown, api: Api) => ({
            type: 'polygon',
            shape: {
                points: [
                    ...every.map((place) => api.coord([band.x[place]!, heightOf(frame, band.low[place]!)])),
                    ...[...every]
                        .reverse()
                        .map((place) => api.coord([band.x[place]!, heightOf(frame, band.high[place]!)])),
                ],
            },
            style: { fill: colour, opacity: 0.2 },
        }),
    }
    const middle = {
        id: `median ${at}`,
        type: 'line',
        name: label,
        silent: true,
        clip: true,
        showSymbol: band.x.length < 3,
        symbol: 'circle',
        emphasis: { disabled: true },
        z: 300 + at,
        data: Array.from(band.x, (x, place) => [x, heightOf(frame, band.middle[place]!)]),
        itemStyle: { color: colour },
        lineStyle: { color: colour, width: 2.5 },
    }
    return [area, middle]
}

function frontSeries(
    front: { x: number[]; y: number[]; label: string },
    frame: Frame,
    colour: string,
): object {
    return {
        id: 'front',
        type: 'line',
        name: front.label,
        silent: true,
        clip: true,
        z: 400,
        step: 'start',
        symbol: 'circle',
        symbolSize: 12,
        showSymbol: true,
        emphasis: { disabled: true },
        data: front.x.map((x, at) => [x, heightOf(frame, front.y[at]!)]),
        itemStyle: { color: 'transparent', borderColor: colour, borderWidth: 1.5 },
        lineStyle: { color: colour, width: 1.5, type: 'dashed' },
    }
}

function reference(value: number, frame: Frame, colour: string): object {
    return {
        id: 'reference',
        type: 'line',
        silent: true,
        showSymbol: false,
        z: 2,
        data: [
            [frame.x.min, heightOf(frame, value)],
            [frame.x.max, heightOf(frame, value)],
        ],
        lineStyle: { color: colour, width: 1, type: 'dashed' },
    }
}
