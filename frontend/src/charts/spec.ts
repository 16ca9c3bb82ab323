/** What a chart is asked to draw. Colours come from model/palette.ts; on dark paper they are lightened by the chart. */
import type { OwnAxis } from './axes'

export type Numbers = ArrayLike<number>

export interface Line {
    /** Metric name where the line is one (exact points are fetched for it when zoomed on a live page). */
    name: string
    label: string
    /** In the legend, where the whole label would be too long. */
    short?: string
    steps: Numbers
    values: Numbers
    colour: string
    dash?: 'dashed' | 'dotted'
    width?: number
    /** Drawn behind, pale: the raw curve behind its smoothed one. */
    faint?: boolean
    /** Made of another line here: its gaps are not counted again. */
    derived?: boolean
    /** Recorded points, where only some of them are here. */
    total?: number
    /** Interval around each point. */
    low?: Numbers
    high?: Numbers
    /** A dot at every point, where there are few. */
    points?: boolean
    /** Changes in jumps: level until the next point. */
    stepped?: boolean
}
export interface Reference {
    value: number
    label: string
}
/** A place on the x axis to point out. */
export interface Upright {
    at: number
    label: string
}
/** A stretch of steps to shade, in front of the phases. */
export interface Shade {
    first: number
    last: number
    label: string
    colour: string
}
export interface LineSpec {
    title: string
    unit: string
    lines: Line[]
    references?: Reference[]
    shades?: Shade[]
    uprights?: Upright[]
    /** Steps shown where the chart is of one stretch of the run only. */
    domain?: [number, number]
    /** Phase regions and decisions behind the lines. */
    context?: boolean
    /** Charts that show the whole run zoom together. */
    linked?: boolean
    logY?: boolean
    /** Values are shares of one, written as per cent. */
    percent?: boolean
    /** Overrides the page's choice. */
    xAxis?: 'step' | 'time'
    /** Where x is neither step nor time. Such a chart has no cursor. */
    own?: OwnAxis
    height?: number
    /** No row of counts and unit under the x axis. */
    compact?: boolean
    /** Said under the chart: how its lines were made. */
    note?: string
    /** What will be here, where no line has a point. */
    empty?: string
}
export interface BarSpec {
    title: string
    unit: string
    bars: { label: string; value: number; low?: number | null; high?: number | null; colour: string }[]
    reference?: Reference
    height?: number
    /** How a value is written; three significant digits otherwise. */
    format?: (value: number) => string
}
