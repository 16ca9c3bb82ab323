/** Horizontal bars with intervals and their values written beside them, as ECharts is told. */
import { significant } from '../model/format'
import { inks, legible } from '../model/theme.svelte'
import { FONT, type EChartsCoreOption } from './echarts'
import { valueScale } from './scale'
import type { BarSpec } from './spec'

export const ROW = 32
export const heightOf = (spec: BarSpec): number => spec.height ?? spec.bars.length * ROW + 32

const finite = (value: number | null | undefined): value is number => Number.isFinite(value)

export function barOption(
    spec: BarSpec,
    width: number,
    dark: boolean,
    margin = { top: 4, bottom: 28 },
): EChartsCoreOption {
    const ink = inks(dark)
    const text = { color: ink.muted, fontSize: 12, fontFamily: FONT }
    const write = spec.format ?? ((value: number) => significant(value, 4))
    const ends = spec.bars.flatMap((bar) => [bar.value, bar.low, bar.high]).filter(finite)
    if (spec.reference) ends.push(spec.reference.value)
    const scale = valueScale(Math.min(0, ...ends), Math.max(0, ...ends), Math.max(2, width / 140))
    const left = Math.min(Math.max(...spec.bars.map((bar) => bar.label.length), 4) * 8 + 20, width * 0.4)
    return {
        animation: false,
        grid: { left, right: 84, ...margin, outerBoundsMode: 'none' },
        xAxis: {
            type: 'value',
            min: scale.min,
            max: scale.max,
            axisLine: { show: false },
            axisTick: { show: false, customValues: scale.ticks },
            axisLabel: {
                ...text,
                fontSize: 11,
                customValues: scale.ticks,
                formatter: scale.label,
                hideOverlap: true,
            },
            splitLine: { lineStyle: { color: ink.grid } },
        },
        yAxis: {
            type: 'category',
            inverse: true,
            data: spec.bars.map((bar) => bar.label),
            axisLine: { lineStyle: { color: ink.line } },
            axisTick: { show: false },
            axisLabel: { ...text, color: ink.ink, width: left - 12, overflow: 'truncate' },
        },
        series: [
            {
                type: 'bar',
                silent: true,
                barWidth: '56%',
                data: spec.bars.map((bar) => ({
                    value: finite(bar.value) ? bar.value : 0,
                    itemStyle: { color: legible(bar.colour, dark) },
                })),
                label: { show: false },
                markLine: spec.reference && {
                    silent: true,
                    symbol: 'none',
                    precision: -1, // or it is rounded to two decimals
                    data: [{ xAxis: spec.reference.value }],
                    lineStyle: { color: ink.ink, type: 'dashed', width: 1 },
                    label: { show: false },
                },
            },
            {
                type: 'custom',
                silent: true,
                z: 5,
                data: spec.bars.map((_, at) => [at]),
                encode: { y: 0 },
                renderItem: (_: unknown, api: Api) =>
                    interval(spec.bars[api.value(0)]!, api, write, ink, text),
            },
        ],
    }
}

interface Api {
    value(dimension: number): number
    coord(point: [number, number]): [number, number]
}
type Ink = ReturnType<typeof inks>

/** The whisker over a bar, and its value behind whichever reaches further. */
function interval(
    bar: BarSpec['bars'][number],
    api: Api,
    write: (value: number) => string,
    ink: Ink,
    text: object,
) {
    const row = api.value(0)
    const known = finite(bar.value)
    const [, y] = api.coord([0, row])
    const furthest = Math.max(0, known ? bar.value : 0, finite(bar.high) ? bar.high : 0)
    const [end] = api.coord([furthest, row])
    const children: object[] = [
        {
            type: 'text',
            style: {
                ...text,
                text: known ? write(bar.value) : significant(bar.value),
                x: end + 8,
                y,
                verticalAlign: 'middle',
                fill: known ? ink.ink : ink.bad,
            },
        },
    ]
    if (finite(bar.low) && finite(bar.high)) {
        const [from] = api.coord([bar.low, row])
        const [to] = api.coord([bar.high, row])
        const pathData = `M${from} ${y}H${to}M${from} ${y - 4}v8M${to} ${y - 4}v8`
        children.push({
            type: 'path',
            shape: { pathData },
            style: { stroke: ink.ink, fill: 'none', lineWidth: 1.5 },
        })
    }
    return { type: 'group', children }
}
