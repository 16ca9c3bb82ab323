/** What a line chart is asked to draw. Colours come from model/palette.ts. */

export type Numbers = ArrayLike<number>

export interface Line {
    /** Metric name where the line is one (exact points are fetched for it when zoomed on a live page). */
    name: string
    label: string
    steps: Numbers
    values: Numbers
    colour: string
    dash?: 'dashed' | 'dotted'
    width?: number
    /** Drawn behind, pale: the raw curve behind its smoothed one. */
    faint?: boolean
    /** Recorded points, where only some of them are here. */
    total?: number
    /** Interval around each point. */
    low?: Numbers
    high?: Numbers
    points?: boolean
}
export interface Reference {
    value: number
    label: string
}
export interface LineSpec {
    title: string
    unit: string
    lines: Line[]
    references?: Reference[]
    /** Steps shown where the chart is of one stretch of the run only. */
    domain?: [number, number]
    /** Phase regions and decisions behind the lines. */
    context?: boolean
    /** Charts that show the whole run zoom together. */
    linked?: boolean
    logY?: boolean
    xAxis?: 'step' | 'time'
    height?: number
}
export interface BarSpec {
    title: string
    unit: string
    bars: { label: string; value: number; low?: number | null; high?: number | null; colour: string }[]
    reference?: Reference
    height?: number
}
