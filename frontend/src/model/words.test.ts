import { describe, expect, it } from 'vitest'
import { compareTexts, difference, side, words } from './words'

const joined = (left: string, right: string, which: 'left' | 'right') =>
    side(compareTexts(left, right), which)
        .map((piece) => piece.text)
        .join('')

describe('word differences', () => {
    const cases: [string, string][] = [
        ['', ''],
        ['', 'a b'],
        ['a b', ''],
        ['the list of lists', 'the list of the strings'],
        ['def f(x):\n    return x\n', 'def f(x, y):\n    return y\n'],
        ['schön 你好 🙂', 'schon 你好 🙂🙂'],
        ['<script>alert(1)</script>', '<script>alert(2)</script>'],
    ]
    it.each(cases)('keeps both texts whole: %j | %j', (left, right) => {
        expect(joined(left, right, 'left')).toBe(left)
        expect(joined(left, right, 'right')).toBe(right)
    })

    it('marks words, not letters', () => {
        const { pieces } = compareTexts('the list of lists', 'the list of strings')
        expect(pieces).toEqual([
            { text: 'the list of ', kind: 'same' },
            { text: 'lists', kind: 'removed' },
            { text: 'strings', kind: 'added' },
        ])
    })

    it('stays whole and quick where texts of the longest kind have nothing in common', () => {
        const left = Array.from({ length: 3_500 }, (_, at) => `a${at}`).join(' ')
        const right = Array.from({ length: 3_500 }, (_, at) => `b${at}`).join(' ')
        const began = performance.now()
        const found = compareTexts(left, right)
        expect(performance.now() - began).toBeLessThan(2_000)
        expect(found.rough).toBe(true)
        expect(joined(left, right, 'left')).toBe(left)
        expect(joined(left, right, 'right')).toBe(right)
    })

    it('says how they differ', () => {
        expect(difference(compareTexts('a b', 'a b'))).toBe('The texts are the same.')
        expect(difference(compareTexts('a, b', 'a; b'))).toBe('They differ in spaces and punctuation only.')
        expect(difference(compareTexts('a b c', 'a b d e'))).toBe(
            '1 word gone, 2 words new; alike for the first 2 words.',
        )
        expect(difference(compareTexts('x', 'y'))).toBe(
            '1 word gone, 1 word new; different from the first word on.',
        )
    })

    it('counts words of any script', () => {
        expect(words('')).toBe(0)
        expect(words('snake_case größe 3.5')).toBe(4)
    })
})
