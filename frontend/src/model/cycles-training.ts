/** How the fine-tuning of each cycle went: its optimisation statistics as a table. */
import { filled, number, whole } from './cycles'
import { duration, plain, significant, signed } from './format'
import type { Column } from './table'
import type { Cycle } from './types'

const all: Column<Cycle>[] = [
    { key: 'cycle', label: 'Cycle', value: (one) => one.cycle, text: (one) => `Cycle ${one.cycle}` },
    number('steps', 'Steps', (one) => one.training?.steps, whole, 'Steps of fine-tuning'),
    number('time', 'Fine-tuning', (one) => one.training?.seconds, duration, 'Time of the fine-tuning alone'),
    number('seconds', 'Whole cycle', (one) => one.seconds, duration, 'All phases of the cycle'),
    number('speed', 'Tokens/s', (one) => one.training?.tokens_per_second, whole, 'Median while fine-tuning'),
    number(
        'rate',
        'Learning rate',
        (one) => one.training?.learning_rate,
        (value) => significant(value),
        'The highest of the fine-tuning',
    ),
    number('best', 'Lowest loss', (one) => one.training?.best_loss, plain, 'Lowest training loss'),
    number(
        'slope',
        'Loss per 100 steps',
        (one) => one.training?.loss_per_100_steps,
        signed,
        'Slope of the training loss over the whole fine-tuning',
    ),
    number(
        'to_90',
        'Steps to 90 %',
        (one) => one.training?.steps_to_90,
        whole,
        'Steps until the smoothed training loss had come 90 % of its way down',
    ),
]

export const trainingColumns = (cycles: Cycle[]): Column<Cycle>[] => filled(all, cycles)
