/** How the fine-tuning of each cycle went: its optimisation statistics as a table. */
import { filled, number, whole } from './cycles'
import { duration, plain, plural, significant } from './format'
import type { Column } from './table'
import type { Cycle } from './types'

const times = (value: number | null | undefined, by: number) =>
    value === null || value === undefined ? value : value * by
const beside = (word: string, of: (one: Cycle) => number | null | undefined) => (one: Cycle) => {
    const value = of(one)
    return value === null || value === undefined ? '' : `${word} ${significant(value)}`
}
const inSteps = (value: number | null | undefined) =>
    value === null || value === undefined ? '–' : plural(value, 'step')
const all: Column<Cycle>[] = [
    { key: 'cycle', label: 'Cycle', value: (one) => one.cycle, text: (one) => `Cycle ${one.cycle}` },
    number('steps', 'Steps', (one) => one.training?.steps, whole, 'Steps of fine-tuning'),
    {
        ...number(
            'time',
            'Time',
            (one) => one.training?.seconds,
            duration,
            'Of the fine-tuning alone; below, of the whole cycle',
        ),
        note: (one) => `of ${duration(one.seconds)}`,
        more: [['Whole cycle', (one) => one.seconds]],
    },
    number('speed', 'Tokens/s', (one) => one.training?.tokens_per_second, whole, 'Median while fine-tuning'),
    {
        ...number(
            'rate',
            'Learning rate',
            (one) => one.training?.learning_rate,
            (value) => significant(value),
            'The highest of the fine-tuning, and its mean',
        ),
        note: beside('mean', (one) => one.training?.learning_rate_mean),
        more: [['Learning rate, mean', (one) => one.training?.learning_rate_mean]],
    },
    {
        ...number(
            'norm',
            'Gradient norm',
            (one) => one.training?.gradient_norm,
            (value) => significant(value),
            'Before clipping: the median of the fine-tuning, and its largest',
        ),
        note: beside('at most', (one) => one.training?.gradient_norm_max),
        more: [['Gradient norm, largest', (one) => one.training?.gradient_norm_max]],
    },
    number('best', 'Lowest loss', (one) => one.training?.best_loss, plain, 'Lowest training loss'),
    number(
        'drop',
        'Won per 100 steps',
        (one) => times(one.training?.drop_per_step, 100),
        (value) => significant(value),
        'Validation loss won back per 100 steps of fine-tuning, in nats',
    ),
    number(
        'area',
        'Cost while it lasted',
        (one) => one.training?.area,
        (value) => significant(value),
        'Validation loss above what it was before pruning, added up over the steps: nats × steps; negative where it came out lower',
    ),
    number(
        'to_half',
        'Half won back',
        (one) => one.training?.steps_to_half,
        inSteps,
        'Steps until half of the validation loss that pruning cost was won back; – where it never was',
    ),
    number(
        'to_90',
        'Training loss 90 % down',
        (one) => one.training?.steps_to_90,
        inSteps,
        'Steps until the smoothed training loss had come 90 % of its way down',
    ),
]

export const trainingColumns = (cycles: Cycle[]): Column<Cycle>[] => filled(all, cycles)
