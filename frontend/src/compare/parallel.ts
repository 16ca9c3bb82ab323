/** Configuration and outcome of every run as one line across parallel axes. */
import { ParallelChart } from 'echarts/charts'
import { ParallelComponent } from 'echarts/components'
import { use } from 'echarts/core'
import { FONT, type EChartsCoreOption } from '../charts/echarts'
import { change, duration, percent, perplexity, ratio } from '../model/format'
import { inks, legible } from '../model/theme.svelte'
import type { Comparison } from '../model/types-comparison'

use([ParallelChart, ParallelComponent])

export interface Axis {
    name: string
    /** In order, where values are words; numbers otherwise. */
    words: string[] | null
    values: (number | null)[] // of each run: the number, or the word's place
    write: (value: number) => string
    outcome: boolean
}
const MOST_SETTINGS = 6
const MOST_WORDS = 12
const SKIPPED = ['environment']

const asNumbers = (values: string[]): number[] | null => {
    const found = values.map((value) => (value.trim() === '' ? NaN : Number(value)))
    return found.every(Number.isFinite) ? found : null
}

/** Settings that differ, with few words or with numbers, then what came of it. */
export function axesOf(doc: Comparison, runs: number[]): Axis[] {
    const settings = doc.settings.differ
        .filter((one) => !SKIPPED.includes(one.section))
        .flatMap((one): Axis[] => {
            const own = runs.map((run) => one.values[run]!)
            const distinct = [...new Set(own)]
            if (distinct.length < 2) return []
            const name = one.name.replaceAll('_', ' ')
            const numbers = asNumbers(own)
            if (numbers) return [{ name, words: null, values: numbers, write: String, outcome: false }]
            if (distinct.length > MOST_WORDS) return []
            const words = distinct.sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
            return [
                {
                    name,
                    words: words.map((word) => word || 'not told'),
                    values: own.map((value) => words.indexOf(value)),
                    write: (at) => words[at] || 'not told',
                    outcome: false,
                },
            ]
        })
        .slice(0, MOST_SETTINGS)
    const lines = runs.map((run) => doc.runs[run]!)
    const mixed = new Set(lines.map((line) => line.kind)).size > 1
    const outcomes: Axis[] = [
        {
            name: 'heads removed',
            values: lines.map((line) => line.outcome?.sparsity ?? null),
            write: (v: number) => percent(v),
        },
        ...(mixed
            ? []
            : [
                  {
                      name: 'perplexity',
                      values: lines.map((line) => line.outcome?.perplexity.value ?? null),
                      write: perplexity,
                  },
              ]),
        {
            name: 'to baseline',
            values: lines.map((line) => line.outcome?.to_baseline?.value ?? null),
            write: (v: number) => change(v - 1),
        },
        {
            name: 'to control',
            values: lines.map((line) => line.outcome?.to_control?.value ?? null),
            write: (v: number) => change(v - 1),
        },
        { name: 'speed', values: lines.map((line) => line.prefill_speedup), write: ratio },
        {
            name: 'model size',
            values: lines.map((line) => line.size_reduction),
            write: (v: number) => change(-v),
        },
        { name: 'took', values: lines.map((line) => line.seconds), write: duration },
    ].map((one) => ({ ...one, words: null, outcome: true }))
    // An axis on which all stand in one place says nothing.
    const tells = (axis: Axis) =>
        new Set(axis.values.filter((value) => value !== null && Number.isFinite(value))).size > 1
    return [...settings, ...outcomes.filter(tells)]
}

export interface Shown {
    axes: Axis[]
    runs: number[]
    colours: string[]
    dark: boolean
    width: number
}

export function parallelOption({ axes, runs, colours, dark, width }: Shown): EChartsCoreOption {
    const ink = inks(dark)
    const text = { color: ink.muted, fontSize: 11, fontFamily: FONT }
    const room = width / Math.max(axes.length, 1)
    const many = runs.length > 12
    return {
        animation: false,
        parallel: { left: 48, right: 76, top: 44, bottom: 16 },
        parallelAxis: axes.map((axis, dim) => ({
            dim,
            name: axis.name,
            nameLocation: 'end',
            nameGap: 14,
            nameTextStyle: {
                ...text,
                color: ink.ink,
                fontWeight: axis.outcome ? 600 : 400,
                width: room - 8,
                overflow: 'truncate',
            },
            axisLine: { lineStyle: { color: ink.muted } },
            axisTick: { lineStyle: { color: ink.line }, length: 4 },
            axisLabel: {
                ...text,
                // Lines pass behind the words.
                textBorderColor: ink.paper,
                textBorderWidth: 3,
                width: room - 14,
                overflow: 'truncate',
                hideOverlap: true,
                formatter: label(axis),
            },
            ...(axis.words
                ? { type: 'category', data: axis.words }
                : { type: 'value', scale: true, splitNumber: 4, minorTick: { show: false } }),
            areaSelectStyle: {
                width: 16,
                color: ink.accent,
                borderColor: ink.accent,
                opacity: 0.25,
                borderWidth: 1,
            },
        })),
        series: [
            {
                id: 'runs',
                type: 'parallel',
                lineStyle: { width: many ? 1 : 2, opacity: many ? 0.5 : 0.9 },
                inactiveOpacity: 0.06,
                activeOpacity: many ? 0.7 : 1,
                emphasis: { disabled: true },
                data: [...runs.keys()].map((at) => line(axes, at, { color: legible(colours[at]!, dark) })),
                z: 2,
            },
        ],
    }
}

const line = (axes: Axis[], at: number, lineStyle: object) => ({
    value: axes.map((axis) => axis.values[at] ?? '-'),
    lineStyle,
})

/** The highlighted run, on a layer of its own: the others are not drawn again for it. */
export function shownOption({ axes, runs, colours, dark }: Shown, shown: number | null): EChartsCoreOption {
    const at = runs.indexOf(shown ?? -1)
    const style = { width: 4, opacity: 1, color: legible(colours[at] ?? '#000000', dark) }
    return {
        series: [
            {
                id: 'shown',
                type: 'parallel',
                silent: true,
                zlevel: 1,
                emphasis: { disabled: true },
                data: at < 0 ? [] : [line(axes, at, style)],
            },
        ],
    }
}

const label = (axis: Axis) => (axis.words ? (word: string) => word : (value: number) => axis.write(value))
