import { describe, expect, it } from 'vitest'
import * as format from './format'

// Each expected text is what views/figures.py writes for the same value.
describe('numbers', () => {
    it('in fixed and significant digits', () => {
        expect(format.plain(1234.5)).toBe('1,234.500')
        expect(format.plain(-0.0001)).toBe('0.000')
        expect([format.plain(0.3125), format.plain(0.3135), format.plain(2.5, 0)]).toEqual([
            '0.312',
            '0.314',
            '2',
        ])
        expect(format.plain(2_500_000)).toBe('2.50e+06')
        expect(format.significant(0.00123)).toBe('0.00123')
        expect(format.significant(0.99996)).toBe('1.00')
        expect(format.significant(1.2e-7, 2)).toBe('1.2e−07')
        expect(format.significant(-12.34)).toBe('−12.3')
        expect(format.significant(0)).toBe('0.00')
    })
    it('that are missing, NaN or infinite', () => {
        for (const write of [
            format.plain,
            format.significant,
            format.perplexity,
            format.percent,
            format.scaled,
        ]) {
            expect(write(null)).toBe('–')
            expect(write(undefined)).toBe('–')
            expect(write(NaN)).toBe('NaN')
            expect(write(Infinity)).toBe('∞')
            expect(write(-Infinity)).toBe('−∞')
        }
    })
    it('with sign, unit and interval', () => {
        expect(format.signed(0.019)).toBe('+0.019')
        expect(format.signed(-0.5, 1)).toBe('−0.5')
        expect(format.percent(0.354)).toBe('35 %')
        expect(format.change(-0.09)).toBe('−9.0 %')
        expect(format.ratio(1.314)).toBe('1.31×')
        expect(format.perplexity(481.23)).toBe('481.2')
        expect(format.perplexity(50257)).toBe('50,257')
        expect(format.between(1.801, 1.885)).toBe('1.801–1.885')
        expect(format.between(-0.006, 0.013, 3, true)).toBe('−0.006 to +0.013')
        expect(format.between(null, 1)).toBe('')
        expect(format.scaled(3_150_000)).toBe('3.15 M')
        expect(format.scaled(8192)).toBe('8,192')
        expect(format.scaled(12_600_000, 'B')).toBe('12.6 MB')
    })
    it('of time', () => {
        expect(format.duration(4.25)).toBe('4.3 s')
        expect(format.duration(130)).toBe('2 min 10 s')
        expect(format.duration(3900)).toBe('1 h 05 min')
        expect(format.duration(273_600)).toBe('3 d 4 h')
        expect(format.clock(41)).toBe('0:41')
        expect(format.clock(3727)).toBe('1:02:07')
        expect(format.ago(1)).toBe('now')
        expect(format.ago(-5)).toBe('now')
        expect(format.ago(200)).toBe('3 min ago')
    })
    it('of things', () => {
        expect(format.plural(1, 'head')).toBe('1 head')
        expect(format.plural(2000, 'head')).toBe('2,000 heads')
        expect(format.whole(1234567)).toBe('1,234,567')
    })
})
