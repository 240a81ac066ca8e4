<?php
/**
 * What Laravel makes of the text of a .env, and of a name: php env.php, then JSON on standard input, one a line.
 * {"env": TEXT} is answered with {"refused": LINE-OF-TEXT} or {"values": {NAME: VALUE}}; {"slug": NAME} with the slugs of both
 * spellings.
 */

require_once 'Illuminate/autoload.php';

use Dotenv\Loader\Loader;
use Dotenv\Parser\Parser;
use Dotenv\Repository\Adapter\ArrayAdapter;
use Dotenv\Repository\RepositoryBuilder;
use Illuminate\Support\Env;
use Illuminate\Support\Str;

/** Laravel's own reader, of a file alone and not of this process. */
class OfFile extends Env
{
    public static function use($repository)
    {
        static::$repository = $repository;
    }
}

function values(string $text): array
{
    $repository = RepositoryBuilder::createWithNoAdapters()->addAdapter(ArrayAdapter::class)->immutable()->make();
    try {
        $names = array_keys((new Loader())->load($repository, (new Parser())->parse($text)));
    } catch (Dotenv\Exception\InvalidFileException $refusal) {
        return ['refused' => $refusal->getMessage()];
    }
    OfFile::use($repository);
    $values = [];
    foreach ($names as $name) {
        $values[$name] = Env::get((string) $name);
    }
    return ['values' => (object) $values];
}

while (($line = fgets(STDIN)) !== false) {
    $asked = json_decode($line, true, 512, JSON_THROW_ON_ERROR);
    $answer = isset($asked['env'])
        ? values($asked['env'])
        : ['slugs' => [Str::slug($asked['slug'], '_'), Str::slug($asked['slug'])]];
    echo json_encode($answer, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE), "\n";
}
