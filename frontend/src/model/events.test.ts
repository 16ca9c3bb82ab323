import { describe, expect, it } from 'vitest'
import { listed, movedOn, NO_PAGES, withPage, type RawEvent } from './events'

const events = (from: number, to: number): RawEvent[] =>
    Array.from({ length: to - from + 1 }, (_, at) => ({
        seq: from + at,
        attempt: 1,
        time: 0,
        kind: (from + at) % 2 ? 'log' : 'metrics',
        step: 0,
        phase: '',
        cycle: 0,
        text: '',
    }))
const seqs = (rows: RawEvent[]) => rows.map((row) => row.seq)

describe('events', () => {
    it('are newest first and none twice', () => {
        const pages = withPage(NO_PAGES, '', events(1, 4))
        expect(seqs(listed(events(3, 6), pages, ''))).toEqual([6, 5, 4, 3, 2, 1])
        expect(seqs(listed(events(3, 6), pages, 'log'))).toEqual([5, 3, 1])
        expect(listed([], NO_PAGES, '')).toEqual([])
    })
    it('of one kind that were fetched do not stand among all, where others would be missing', () => {
        const pages = withPage(NO_PAGES, 'log', [events(1, 1)[0]!])
        expect(seqs(listed(events(5, 6), pages, ''))).toEqual([6, 5])
        expect(seqs(listed(events(5, 6), pages, 'log'))).toEqual([5, 1])
    })
    it('that the document drops are kept', () => {
        const pages = movedOn(NO_PAGES, events(1, 4), events(3, 6))
        expect(seqs(listed(events(3, 6), pages, ''))).toEqual([6, 5, 4, 3, 2, 1])
        expect(movedOn(pages, [], events(3, 6))).toBe(pages)
    })
    it('are given up where the document ran ahead or began anew: a hole would not be seen', () => {
        expect(movedOn(NO_PAGES, events(1, 4), events(6, 9))).toBe(NO_PAGES)
        expect(movedOn(withPage(NO_PAGES, 'log', events(1, 1)), events(1, 4), events(1, 2))).toBe(NO_PAGES)
        expect(movedOn(NO_PAGES, events(1, 6_000), events(5_000, 6_001))).toBe(NO_PAGES)
    })
})
