/** This program's version: package.json's, held to it by a test. */
export const VERSION = '0.1.0'
