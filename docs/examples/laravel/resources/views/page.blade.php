<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="csrf-token" content="{{ csrf_token() }}">
  <title>@yield('title')</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="/style.css">
</head>
<body>
  <header>
    <a class="mark" href="/">Harbour Trading</a>
    @auth
      <nav>
        <a href="/" @class(['here' => request()->is('/')])>Dashboard</a>
        <a href="/chat/floor" @class(['here' => request()->is('chat/*')])>Chat</a>
      </nav>
      <span id="state" class="state">connecting</span>
      <span class="me">{{ auth()->user()->name }}</span>
      <form method="post" action="/logout">@csrf<button class="quiet">Log out</button></form>
    @endauth
  </header>
  <main>@yield('main')</main>
  @auth
    <script>
      window.page = {{ Illuminate\Support\Js::from([
        'user' => ['id' => auth()->user()->id, 'name' => auth()->user()->name],
        'front' => config('broadcasting.front'),
      ]) }};
    </script>
    @if (config('broadcasting.front.connector') === 'socket.io')
      <script src="/vendor/socket.io.min.js"></script>
    @else
      <script src="/vendor/pusher.min.js"></script>
    @endif
    <script src="/vendor/echo.iife.js"></script>
    <script src="/broadcast.js"></script>
    @yield('scripts')
  @endauth
</body>
</html>
