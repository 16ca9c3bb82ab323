/** Horizontal axes that are neither step nor time: what they are, and how a place on them is said. */
import { plain, plural, whole } from '../model/format'

export interface OwnAxis {
    label: string
    said: (x: number) => string
}

export const CYCLE: OwnAxis = { label: 'cycle', said: (x) => `cycle ${whole(x)}` }
export const CYCLE_FROM_BASELINE: OwnAxis = {
    label: 'cycle (0: the baseline)',
    said: (x) => (x === 0 ? 'the baseline' : CYCLE.said(x)),
}
export const CYCLES_SINCE: OwnAxis = {
    label: 'cycles since it came',
    said: (x) => `after ${plural(x, 'cycle')}`,
}
export const STEPS_SINCE_PRUNING: OwnAxis = {
    label: 'steps since pruning',
    said: (x) => `after ${plural(x, 'step')}`,
}
export const HEADS_REMOVED: OwnAxis = {
    label: '% of the heads removed',
    said: (x) => `${plain(x, 1)} % removed`,
}
