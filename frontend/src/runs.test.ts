import { expect, it } from 'vitest'
import type { RunEntry } from './model/types'
import { sorted, states, type Choice } from './runs'

const run = (id: string, more: Partial<RunEntry> = {}): RunEntry => ({
    id,
    name: id,
    state: 'finished',
    phase: '',
    cycle: 0,
    cycles_planned: null,
    step: 0,
    started: 1,
    last_event: 1,
    figures: {},
    tags: [],
    simulated: false,
    ...more,
})
const choice: Choice = { search: '', state: '', by: 'perplexity', down: false }
const ids = (runs: RunEntry[]) => runs.map((one) => one.id)

it('sorts by any column, what has no value last either way', () => {
    const runs = [
        run('a', { figures: { perplexity: 9 } }),
        run('b'),
        run('c', { figures: { perplexity: 3 } }),
    ]
    expect(ids(sorted(runs, choice))).toEqual(['c', 'a', 'b'])
    expect(ids(sorted(runs, { ...choice, down: true }))).toEqual(['a', 'c', 'b'])
    expect(ids(sorted(runs, { ...choice, by: 'name', down: true }))).toEqual(['c', 'b', 'a'])
})

it('filters by text and state', () => {
    const runs = [
        run('one', { tags: ['GPT-2'] }),
        run('two', { state: 'running' }),
        run('x/three', { name: 'other' }),
    ]
    expect(ids(sorted(runs, { ...choice, search: ' gpt' }))).toEqual(['one'])
    expect(ids(sorted(runs, { ...choice, search: 'three' }))).toEqual(['x/three'])
    expect(ids(sorted(runs, { ...choice, state: 'running' }))).toEqual(['two'])
    expect(states(runs)).toEqual(['running', 'finished'])
})
